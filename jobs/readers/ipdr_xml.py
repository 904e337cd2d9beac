"""IPDRDoc XML (TM Forum/IPDR.org NDM-U, IPDRDoc 3.0 and 3.5) as CMTS write it for SAMIS (CableLabs DOCSIS OSSI): a row an IPDR.

Records are found and plain ones read by ``ipdr_xml_walk``; a record with anything unusual in it is read by expat, alone. No
document type and no entity is ever processed: a document that declares one is refused. What is not well-formed inside a record
costs that record only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import unescape

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.readers import ipdr_xml_walk as walk
from jobs.readers.block import Block, ReadFault, Tally
from jobs.readers.ipdr_names import Wanted, plain, wanted
from jobs.readers.recognise import recognised
from jobs.readers.window import Octets, guarded, more, octets_of

Integers = npt.NDArray[np.int64]
Texts = dict[int, str | None]

WINDOW_OCTETS = 8 << 20
BLOCK_RECORDS = 1 << 15
DEEPEST = 16
"""An IPDR nests two or three deep; what nests deeper is none."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_XML_DECLARATION_OCTETS = 1 << 10
_SPACE = " \t\r\n"
_AMPERSAND = ord("&")
_QUOTES = {"&quot;": '"', "&apos;": "'"}
_MOST_NAMES_KEPT = 1 << 10
_ENCODING = re.compile(rb"^<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)[\"'][^>]*\?>")
_COUNT = re.compile(rb"\scount\s*=\s*[\"']\s*([^\"'\s]*)\s*[\"']")
_LATIN = {b"iso-8859-1", b"iso_8859-1", b"latin1", b"latin-1"}
_UTF_8 = {b"utf-8", b"utf8", b"us-ascii", b"ascii"}
_OTHER_ENCODING = "its XML declaration names another encoding than it is in, or than UTF-8 and ISO-8859-1"
_WIDE = (b"\xfe\xff", b"\xff\xfe", b"\0<", b"<\0", b"\0\0\0<", b"\0\0\xfe\xff")

_FAULT_OF_KIND = {
    walk.NOT_CLOSED: "record_not_closed",
    walk.TRUNCATED: "truncated",
    walk.TOO_LONG: "record_too_long",
    walk.NO_RECORD: "not_a_record",
}
_FAULT_OF_ERROR = {
    expat.errors.XML_ERROR_TAG_MISMATCH: "tag_mismatch",
    expat.errors.XML_ERROR_DUPLICATE_ATTRIBUTE: "attribute_doubled",
    expat.errors.XML_ERROR_UNDEFINED_ENTITY: "entity_not_predefined",
}


def read_ipdr_xml(stream: Any, columns: Sequence[str], tally: Tally, window_octets: int = WINDOW_OCTETS) -> Iterator[Block]:
    """Yield the records of an uncompressed stream of IPDRDoc XML, a row an ``IPDR`` element.

    Columns are children of the IPDR by name, without namespace prefix and whatever their case, by any of the names that
    ``ipdr_names`` knows; all are text as written, without white space around it: null where the record lacks the element or
    says ``xsi:nil``, empty where that is empty. Units are those of the document: octets, packets, seconds, and hundredths of a
    second for CmtsSysUpTime.

    A record that is not well-formed has a fault and no values: ``tag_mismatch``, ``attribute_doubled``,
    ``entity_not_predefined``, ``not_well_formed``, ``nested_too_deep``, ``name_too_long``, ``record_not_closed``,
    ``record_too_long``, ``truncated`` where the file ends inside it, ``not_a_record`` for what stands between records. One that
    has a column twice (``element_doubled``) or as an element with children (``element_nested``) has its other values. Octets of
    records with a fault are quarantined; white space between records is padding; prolog, comments, and the tags of IPDRDoc and
    IPDRDoc.End are header.

    The document's own count goes to ``tally.records_declared``. Warnings: ``truncated`` for a document without its end,
    ``count_malformed``, ``root_not_well_formed``, ``document_repeated`` where another follows in the same file.

    Args:
        stream: the file, already decompressed.
        columns: the columns to keep.
        tally: is counted up while blocks are read.
        window_octets: how much is read at a time.

    Raises:
        ReadFault: the file is no IPDRDoc, has a DOCTYPE or an entity declaration, or is in another encoding than UTF-8 or
            ISO-8859-1.
        ValueError: two columns are the same by other names.
    """
    reading = _Reading(wanted(columns), tally)
    window, is_last = more(stream, b"", window_octets)
    while not is_last and len(window) < _LONGEST_XML_DECLARATION_OCTETS and b"?>" not in window:
        window, is_last = more(stream, window, window_octets)
    at = _require_xml(window, reading)
    tally.octets_header += at
    offset, is_open = 0, False
    while True:
        tally.octets = offset + len(window)
        data = guarded(window)
        while True:
            found, stop, spaces, is_open = walk.frame_records(
                data, at, len(window), is_last, is_open, reading.starts, reading.ends, reading.kinds
            )
            tally.octets_padding += spaces
            at = stop
            if found:
                reading.count_markup(data, found, window)
                yield from reading.block(data, found, offset)
            if found < BLOCK_RECORDS:
                break
        if is_last:
            reading.require_root(window)
            tally.warn("truncated", int(not reading.has_ended))
            return
        offset += at
        window, is_last = more(stream, window[at:], window_octets)
        at = 0


def _require_xml(window: bytes, reading: _Reading) -> int:
    """Refuse a file that is no XML, by name, before anything of it is read; where what follows a byte order mark begins."""
    if not window:
        raise ReadFault("the file is empty")
    if window.startswith(_WIDE):
        raise ReadFault("this is in UTF-16 or UTF-32; IPDRDoc is read in UTF-8 and ISO-8859-1")
    at = len(_BYTE_ORDER_MARK) if window.startswith(_BYTE_ORDER_MARK) else 0
    text = window[at : at + _LONGEST_XML_DECLARATION_OCTETS]
    if not text.lstrip().startswith(b"<"):
        raise ReadFault(f"this is {recognised(window) or 'binary'}, not an IPDRDoc (XML)")
    reading.is_latin = reading.declares_latin = _declares_latin(text.lstrip())
    if at and reading.is_latin:
        raise ReadFault(_OTHER_ENCODING)
    return at


def _declares_latin(text: bytes) -> bool:
    """Whether a document is in ISO-8859-1 by its XML declaration, else in UTF-8. Raises ReadFault for any other."""
    named = _ENCODING.match(text)
    encoding = named[1].lower() if named else b"utf-8"
    if encoding not in _LATIN | _UTF_8:
        raise ReadFault(_OTHER_ENCODING)
    return encoding in _LATIN


@dataclass
class _Reading:
    """A document that is being read."""

    wanted: Wanted
    tally: Tally
    is_latin: bool = False
    declares_latin: bool = False
    """By the XML declaration in front of the next root, if there is one."""
    met: dict[str, int | None] = field(default_factory=dict)
    """Places of names met by the whole parser."""
    has_root: bool = False
    has_ended: bool = False
    starts: Integers = field(default_factory=lambda: np.empty(BLOCK_RECORDS, np.int64))
    ends: Integers = field(default_factory=lambda: np.empty(BLOCK_RECORDS, np.int64))
    kinds: Integers = field(default_factory=lambda: np.empty(BLOCK_RECORDS, np.int64))

    def __post_init__(self) -> None:
        self.table, self.names = walk.name_table(self.wanted.places)
        self.is_sure = np.empty(BLOCK_RECORDS, np.bool_)
        self.spans = np.empty((BLOCK_RECORDS, self.wanted.width, 2), np.int32)

    def count_markup(self, data: Octets, found: int, window: bytes) -> None:
        """Tally what is no record, and require the root before the first one. Raises ReadFault."""
        kinds, lengths = self.kinds[:found], (self.ends - self.starts)[:found]
        is_header = (kinds >= walk.ROOT) & (kinds <= walk.OTHER_MARKUP)
        self.tally.octets_header += int(lengths[is_header].sum())
        self.tally.octets_quarantined += int(lengths[kinds == walk.MORE_OF_NO_RECORD].sum())
        ended_at = -1
        for nth in np.flatnonzero(kinds >= walk.ROOT).tolist():
            kind, octets = kinds[nth], data[self.starts[nth] : self.ends[nth]].tobytes()
            if kind == walk.DECLARATION:
                raise ReadFault("it has a document type (DOCTYPE) or declares entities: such a document is not read")
            if not self.has_root and kind not in (walk.ROOT, walk.OTHER_MARKUP):
                break
            if kind == walk.ROOT:
                self._begin(octets, bool((kinds[:nth] != walk.OTHER_MARKUP).any()), window)
                ended_at = nth
            elif kind == walk.ROOT_END:
                self.has_ended, ended_at = True, nth
            elif kind == walk.DOCUMENT_END:
                self._declare(octets)
            elif octets.startswith(b"<?xml "):
                self.declares_latin = _declares_latin(octets)
        if not self.has_root and (kinds != walk.OTHER_MARKUP).any():
            self.require_root(window)
        # A record behind the end of a document belongs to one that has not ended.
        self.has_ended = self.has_ended and not (kinds[ended_at + 1 :] <= walk.TOO_LONG).any()

    def require_root(self, window: bytes) -> None:
        """Refuse a document of another kind."""
        if not self.has_root:
            other = "XML, but its root is not an IPDRDoc" if recognised(window.lstrip()) == "XML" else "not an IPDRDoc (XML)"
            raise ReadFault(f"this is {other}")

    def _begin(self, tag: bytes, is_late: bool, window: bytes) -> None:
        if self.declares_latin != self.is_latin:
            raise ReadFault("the documents in it are in more than one encoding")
        self.declares_latin = False
        is_first = not self.has_root
        if is_first and is_late:
            self.require_root(window)
        self.has_root, self.has_ended = True, tag.endswith(b"/>")
        if not is_first:
            self.tally.warn("document_repeated")
            return
        try:
            self.parser().Parse(tag)
        except expat.ExpatError:
            self.tally.warn("root_not_well_formed")

    def _declare(self, tag: bytes) -> None:
        count = _COUNT.search(tag)
        if count is None:
            return
        if not re.fullmatch(rb"[0-9]{1,18}", count[1]):
            self.tally.warn("count_malformed")
            return
        # Documents one after the other in a file each have their count.
        self.tally.records_declared = (self.tally.records_declared or 0) + int(count[1])

    def parser(self) -> Any:
        """A parser of XML that knows no entity but the predefined ones."""
        parser = expat.ParserCreate("iso-8859-1" if self.is_latin else "utf-8")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        return parser

    def block(self, data: Octets, found: int, offset: int) -> Iterator[Block]:
        """The records among what was found, if there are any."""
        is_row = self.kinds[:found] <= walk.NO_RECORD
        starts, ends, kinds = (each[:found][is_row] for each in (self.starts, self.ends, self.kinds))
        rows = len(starts)
        if not rows:
            return
        is_sure, spans = self.is_sure[:rows], self.spans[:rows]
        # What is no whole record is not walked: it says nothing sure.
        walked_to = np.where(kinds == walk.RECORD, ends, starts)
        walk.walk_records(data, starts, walked_to, self.is_latin, self.table, self.names, spans, is_sure)
        unsure = np.flatnonzero(~is_sure)
        found_texts: list[Texts] = []
        faults: list[str | None] = [None] * rows
        for row in unsure.tolist():
            texts: Texts = {}
            faults[row] = _FAULT_OF_KIND.get(int(kinds[row]))
            if kinds[row] == walk.RECORD:
                texts, faults[row] = _Record(self, data[starts[row] : ends[row]].tobytes()).read()
            found_texts.append(texts)
        is_bad = np.array([fault is not None for fault in faults], bool)
        lengths = ends - starts
        self.tally.octets_quarantined += int(lengths[is_bad].sum())
        self.tally.octets_records += int(lengths[~is_bad].sum())
        self.tally.spans_quarantined += int((kinds == walk.NO_RECORD).sum())
        ordinals = self.tally.records + 1 + np.arange(rows, dtype=np.int64)
        self.tally.records += rows
        yield Block(self._columns(data, spans, unsure, found_texts), ordinals, offset + starts, pa.array(faults, pa.string()))

    def _columns(self, data: Octets, spans: npt.NDArray[np.int32], unsure: Integers, texts: list[Texts]) -> pa.RecordBatch:
        made = [self._text(octets_of(data, spans[:, place])) for place in range(self.wanted.width)]
        if len(unsure):
            order = np.arange(len(spans))
            order[unsure] = len(spans) + np.arange(len(unsure))
            for place, column in enumerate(made):
                other = pa.array([text.get(place) for text in texts], pa.string())
                made[place] = pa.concat_arrays([column, other]).take(pa.array(order))
        return self.wanted.batch(made)

    def _text(self, octets: pa.BinaryArray) -> pa.StringArray:
        """Texts of octets that the walk has found to be characters of the document's encoding, and predefined entities."""
        values = np.frombuffer(octets.buffers()[2] or b"", np.uint8)
        is_high = self.is_latin and bool(values.max(initial=0) >= 0x80)
        if not is_high and not (values == _AMPERSAND).any():
            return octets.view(pa.string())
        distinct = octets.dictionary_encode()
        encoding = "iso-8859-1" if self.is_latin else "utf-8"
        texts = [unescape(text.decode(encoding), _QUOTES) for text in distinct.dictionary.to_pylist()]
        return pa.array(texts, pa.string()).take(distinct.indices)

    def place(self, name: str) -> int | None:
        """The place of an element by its whole name. Raises _NotRead if no name is that long."""
        if name not in self.met:
            if len(name.encode()) > walk.LONGEST_NAME_OCTETS:
                raise _NotRead("name_too_long")
            if len(self.met) >= _MOST_NAMES_KEPT:
                self.met.clear()
            self.met[name] = self.wanted.places.get(plain(name))
        return self.met[name]


class _NotRead(Exception):
    """A record is refused while it is parsed; the text is its fault."""


class _Record:
    """A record that is read by a whole parser of XML."""

    def __init__(self, reading: _Reading, octets: bytes) -> None:
        self.octets, self.place_of = octets, reading.place
        self.parser = reading.parser()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.texts: Texts = {}
        self.fault: str | None = None
        self.depth = 0
        self.place: int | None = None
        self.parts: list[str] | None = None

    def read(self) -> tuple[Texts, str | None]:
        """Its texts by place, and what is wrong with it."""
        try:
            self.parser.Parse(self.octets, True)
        except expat.ExpatError as error:
            return {}, _FAULT_OF_ERROR.get(expat.ErrorString(error.code), "not_well_formed")
        except _NotRead as refused:
            return {}, str(refused)
        return self.texts, self.fault

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NotRead("nested_too_deep")
        place = self.place_of(name)
        is_nil = False
        for each, value in attributes.items():
            self.place_of(each)
            is_nil = is_nil or (plain(each) == "nil" and value.strip() in ("true", "1"))
        if self.depth == 2:
            self.place = place
            is_doubled = place is not None and place in self.texts
            self.parts = None if self.place is None or is_nil else []
            if is_doubled:
                self._spoil("element_doubled")
        elif self.depth == 3 and self.place is not None:
            self._spoil("element_nested")

    def _spoil(self, fault: str) -> None:
        assert self.place is not None
        self.fault = self.fault or fault
        self.texts[self.place] = None
        self.parts = None

    def _end(self, _: str) -> None:
        self.depth -= 1
        if self.depth == 1 and self.place is not None:
            if self.place not in self.texts:
                self.texts[self.place] = None if self.parts is None else "".join(self.parts).strip(_SPACE)
            self.place = self.parts = None

    def _characters(self, text: str) -> None:
        if self.depth == 2 and self.parts is not None:
            self.parts.append(text)
