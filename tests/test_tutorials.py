"""The tutorials and how-tos are run as they are written: each command in its order, what it prints beside what is shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from jobs.postgres import stop_embedded
from jobs.run import PROJECT, Settings

pytestmark = [pytest.mark.spark, pytest.mark.slow]

DOCS = PROJECT / "docs"
MOST_SECONDS = 3600
_ENDED = "--- the command above ended with exit code"


@dataclass(frozen=True)
class Command:
    """A command of a page, where it stands, and what is shown of its output: ``…`` is anything, None that nothing is shown."""

    text: str
    line: int
    shown: str | None

    @property
    def tells_of_failing(self) -> bool:
        """The page shows that the command does not work."""
        return re.search(r"^(refused|error): |^ERROR: ", self.shown or "", re.MULTILINE) is not None

    def prints(self, printed: str) -> bool:
        """What was printed is what is shown."""
        if self.shown is None:
            return True
        pattern = ".*".join(re.escape(part) for part in _trimmed(self.shown).split("…"))
        return re.fullmatch(pattern, _trimmed(printed), re.DOTALL) is not None


def _trimmed(text: str) -> str:
    """Without white space at the end of lines, which nobody sees."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def commands(page: Path) -> list[Command]:
    """The commands of the ``console`` blocks of a page: a line after ``$``, and those after ``>`` that go on with it."""
    found: list[Command] = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info == "console":
            assert token.map is not None
            found += _of_block(token.content, token.map[0] + 2)
    return found


def _of_block(block: str, first_line: int) -> Iterator[Command]:
    begins = [(found.start(), found.group(1)) for found in re.finditer(r"^\$ (.*(?:\n> .*|\n>$)*)", block, re.MULTILINE)]
    ends = [*(begin for begin, _ in begins[1:]), len(block)]
    for (begin, text), end in zip(begins, ends, strict=True):
        shown = block[begin + len("$ ") + len(text) : end].strip("\n")
        line = first_line + block[:begin].count("\n")
        yield Command(re.sub(r"^> ?", "", text, flags=re.MULTILINE), line, shown or None)


def run(page: Path, place: Path) -> None:
    """Run the commands of a page in one shell. Fails at the first that prints, or ends, otherwise than the page says."""
    asked = commands(page)
    transcript = _transcript(asked, place, place / f"{page.stem}.txt")
    for number, command in enumerate(asked):
        where = f"{page.relative_to(PROJECT)}:{command.line}: $ {command.text}"
        if number == len(transcript):
            pytest.fail(f"{where}\nwas not run: the shell ended before it")
        printed, code = transcript[number]
        if not command.prints(printed) or (code and not command.tells_of_failing):
            pytest.fail(f"{where}\nprinted (exit code {code})\n{printed}\n\nand not\n{command.shown}")


def _transcript(asked: list[Command], place: Path, out: Path) -> list[tuple[str, int]]:
    """Output and exit code of each command that came to its end. It goes to a file: a server would keep a pipe open."""
    script = "".join(f"{{ {c.text}\n}} 2>&1\ncode=$?; printf '\\n{_ENDED} %s\\n' $code; (exit $code)\n" for c in asked)
    with out.open("wb") as written:
        # As on a terminal: in a pipe the log is JSON.
        settings = {"FOOTPRINT_VAR": str(place), "FOOTPRINT_SPARK_MASTER": "local[2]", "FOOTPRINT_LOG": "text"}
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("FOOTPRINT_")} | settings,
            start_new_session=True,
        )
        try:
            process.wait(MOST_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    *ended, _ = re.split(rf"\n{_ENDED} (\d+)\n", out.read_text(encoding="utf-8", errors="replace"))
    return [(printed.strip("\n"), int(code)) for printed, code in zip(ended[::2], ended[1::2], strict=True)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One place for all pages, so that one month is enough."""
    found = tmp_path_factory.mktemp("tutorials")
    (found / "jars").symlink_to(Settings.from_environment().jars)
    yield found
    stop_embedded(Settings.from_environment({"FOOTPRINT_VAR": str(found)}))


@pytest.fixture(scope="module")
def published(place: Path) -> Path:
    """The place after the data engineer's tutorial: the others go on from there."""
    run(DOCS / "tutorials" / "data-engineer.md", place)
    return place


def test_the_data_engineers_tutorial(published):
    assert (published / "lake" / "publications").is_dir()


@pytest.mark.parametrize("page", ["tutorials/auditor.md", "tutorials/billing-and-portal.md"])
def test_a_tutorial_that_goes_on_from_the_published_month(published, page):
    run(DOCS / page, published)


@pytest.mark.parametrize("page", ["how-to/add-a-source.md", "factors.md"])
def test_a_how_to(place, page):
    run(DOCS / page, place)


def test_every_page_with_commands_is_run():
    tried = {"tutorials/data-engineer.md", "tutorials/auditor.md", "tutorials/billing-and-portal.md"}
    tried |= {"how-to/add-a-source.md", "factors.md"}

    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if commands(path)} == tried


def test_what_is_shown_is_compared_and_only_an_ellipsis_varies():
    (command,) = _of_block("$ ls\none …\nthree\n", 1)

    assert command.prints("one two\nthree")
    assert command.prints("one two \nthree\n")
    assert not command.prints("one two\nthree\nfour")
    assert not command.prints("two\nthree")
