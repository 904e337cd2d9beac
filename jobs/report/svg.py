"""A figure of Matplotlib as a piece of a page: text is text, colours are the page's own, and it has a name and a description.

The same figure gives the same octets: ids are those that are referred to, made from a fixed salt, and no date is written.
"""

from __future__ import annotations

import re
from io import BytesIO
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

COLOURS = (
    *("text", "soft", "line", "ground", "raised", "fixed", "mobile", "source"),
    *("accepted", "duplicate", "rejected", "out_of_scope", "subscription", "volume"),
    *("heat0", "heat1", "heat2", "heat3", "heat4", "heat5"),
)
"""Colours by the name of their variable in the style sheet."""
_CODES = {name: f"#fe{place:02x}fe" for place, name in enumerate(COLOURS)}
"""What Matplotlib is told instead: it knows no variables."""
_NAMES = {code: name for name, code in _CODES.items()}
_FONT = re.compile(r" font-family: [^;]*;")
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def colour(name: str) -> str:
    """The code by which a drawing names a colour of the page."""
    return _CODES[name]


def inline(figure: Figure, name: str, title: str, description: str, kind: str) -> Markup:
    """An ``svg`` element.

    Args:
        figure: the figure, one unit of the page for each point.
        name: what its ids begin with; no other figure of the page has it.
        title: its name to a screen reader.
        description: what it shows, in words; the table beside it has the figures.
        kind: its class in the style sheet.
    """
    written = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    drawn = ElementTree.fromstring(written.getvalue())
    referred = set(re.findall(rb'(?:url\(#|href="#)([\w.-]+)', written.getvalue()))
    for parent in list(drawn.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}metadata" or (child.tag == f"{_SVG}defs" and child.find(f"{_SVG}style") is not None):
                parent.remove(child)
    for element in drawn.iter():
        _settle(element, name, referred)
    width, height = (f"{float(figure.get_size_inches()[side] * 72):g}" for side in (0, 1))
    drawn.attrib.clear()
    named = f"{name}-title {name}-description"
    drawn.attrib |= {"class": kind, "viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    drawn.attrib |= {"role": "img", "aria-labelledby": named, "focusable": "false"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        told = ElementTree.Element(tag, {"id": named.split()[place]})
        told.text = text
        drawn.insert(place, told)
    return Markup(ElementTree.tostring(drawn, encoding="unicode"))  # ElementTree escapes what it writes


def _settle(element: ElementTree.Element, name: str, referred: set[bytes]) -> None:
    """Drop what only a drawing programme needs, and name what is referred to after the figure."""
    element.tag = element.tag.removeprefix(_SVG)
    given = element.attrib.pop("id", None)
    if given and given.encode() in referred:
        element.set("id", f"{name}-{given}")
    elif given and given.startswith("over-"):
        element.set("class", "over")  # text over a ribbon
    if link := element.attrib.pop(_LINK, None):
        element.set("href", f"#{name}-{link.removeprefix('#')}")
    if clip := element.get("clip-path"):
        element.set("clip-path", clip.replace("(#", f"(#{name}-"))
    if style := element.get("style"):
        plain = _FONT.sub("", style)
        element.set("style", re.sub("#[0-9a-f]{6}", lambda code: _themed(code[0]), plain))
    if element.tag == "text" and "transform" in element.attrib and element.attrib["transform"].startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.text and not element.text.strip():
        element.text = None
    element.tail = None


def _themed(code: str) -> str:
    """A code as the variable it stands for. Raises KeyError for a colour that no scheme knows."""
    return f"var(--{_NAMES[code].replace('_', '-')})"
