"""Files of the landing folder: written under ``.part``, numbered without a gap, renamed when they are complete."""

from __future__ import annotations

import gzip
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.demo.plan import Plan

ROW_GROUP_RECORDS = 65_536
REDELIVERED_DAY = 4


@contextmanager
def completed(path: Path) -> Iterator[Path]:
    """The path to write to; it gets its own name when everything is written, and a file left unfinished keeps ``.part``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    yield part
    part.replace(path)


@dataclass
class Delivery(ABC):
    """A file being written, and how many records it holds."""

    records: int = field(default=0, init=False)

    @abstractmethod
    def write(self, lines: Any) -> None:
        """Append Arrow records."""


@dataclass
class Text(Delivery):
    """Lines, each with its line end, after the header if there is one."""

    stream: Any

    def write(self, lines: pa.Array) -> None:
        """Append an Arrow array of lines."""
        ends = np.frombuffer(lines.buffers()[1], dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
        if len(lines):
            self.stream.write(memoryview(lines.buffers()[2])[ends[0] : ends[-1]])
            self.records += len(lines)

    def write_line(self, line: bytes) -> None:
        """Append one line as it is: it need not be text."""
        self.stream.write(line + b"\n")
        self.records += 1


@dataclass
class Table(Delivery):
    """Rows of a Parquet file, in row groups of even size however few come at a time."""

    writer: Any
    waiting: list[Any] = field(default_factory=list)

    def write(self, lines: pa.Table) -> None:
        """Append rows."""
        self.waiting.append(lines)
        self.records += len(lines)
        if sum(map(len, self.waiting)) >= ROW_GROUP_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting))
            self.waiting.clear()


@dataclass
class Records(Text):
    """Charging records with their CDR headers, one after the other. ``cdrs`` counts what has a header."""

    @property
    def cdrs(self) -> int:
        """Records with a CDR header."""
        return self.records - self.others

    others: int = field(default=0, init=False)

    def write_line(self, line: bytes) -> None:
        """Append octets as they are: a record, or what is none."""
        self.stream.write(line)
        self.records += 1
        self.others += line[:1] in (b"\xff", b"~")


@contextmanager
def charging_file(path: Path, number: int) -> Iterator[Records]:
    """A TS 32.297 file: header of 54 octets with both release extensions, its lengths and counts filled in at the end."""
    with completed(path) as part, part.open("wb") as stream:
        stream.write(_file_header(0, 0, number))
        records = Records(stream)
        yield records
        length = stream.tell()
        stream.seek(0)
        stream.write(_file_header(length, records.cdrs, number))


def _file_header(length: int, cdrs: int, number: int) -> bytes:
    address = b"\xff" * 4 + bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1])
    times = bytes(8)  # no year, and not to be trusted
    begin = length.to_bytes(4, "big") + (54).to_bytes(4, "big") + b"\xe2\xe2" + times
    return begin + cdrs.to_bytes(4, "big") + number.to_bytes(4, "big") + b"\x00" + address + b"\x00" + bytes(4) + b"\x08\x08"


@contextmanager
def text_file(path: Path, header: bytes = b"") -> Iterator[Text]:
    """A text file, compressed as its suffix says; without a clock or a name in the compressed header."""
    with ExitStack() as stack:
        stream: Any = stack.enter_context(stack.enter_context(completed(path)).open("wb"))
        if path.suffix == ".gz":
            stream = stack.enter_context(gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0))
        if path.suffix == ".zst":
            stream = stack.enter_context(pa.CompressedOutputStream(stream, "zstd"))
        stream.write(header)
        yield Text(stream)


@contextmanager
def parquet_file(path: Path, schema: pa.Schema) -> Iterator[Table]:
    """A Parquet file of that schema."""
    with completed(path) as part, pq.ParquetWriter(part, schema) as writer:
        table = Table(writer)
        yield table
        table.flush()


@dataclass
class Series(ABC):
    """The numbered files of one series: those of the days, then the late records, then one of the days' files again."""

    plan: Plan
    files: int = field(default=0, init=False)
    records: int = field(default=0, init=False)
    redelivered_records: int = field(default=0, init=False)

    @abstractmethod
    def path(self, number: int, day: date, written: date) -> Path:
        """Where the file of that number and day is; the day it was first written says how it is compressed."""

    @abstractmethod
    def file(self, path: Path) -> Any:
        """A context in which the file is written."""

    @contextmanager
    def of_day(self, day: int, part: int) -> Iterator[Any]:
        """A file of the day, counted when complete."""
        with self.file(self._path_of_day(day, part)) as delivery:
            yield delivery
        self._count(delivery.records)
        if (day, part) == (REDELIVERED_DAY, 0):
            self.redelivered_records = delivery.records

    @contextmanager
    def of_late_records(self) -> Iterator[Any]:
        """The file that comes after the month."""
        with self.file(self.path(self.plan.number_of_late, self.plan.late_date, self.plan.late_date)) as delivery:
            yield delivery
        self._count(delivery.records)

    def redeliver(self) -> None:
        """Deliver the same octets again, under the last number."""
        written = self.plan.date_of(REDELIVERED_DAY)
        with completed(self.path(self.plan.number_of_redelivered, self.plan.late_date, written)) as part:
            shutil.copyfile(self._path_of_day(REDELIVERED_DAY, 0), part)
        self._count(self.redelivered_records)

    def _path_of_day(self, day: int, part: int) -> Path:
        written = self.plan.date_of(day)
        return self.path(self.plan.number(day, part), written, written)

    def _count(self, records: int) -> None:
        self.files, self.records = self.files + 1, self.records + records


@dataclass
class PipeSeries(Series):
    """pgw_pipe: every third day compressed."""

    prefix: str

    def path(self, number: int, day: date, written: date) -> Path:
        """The layout names the series and the number, not the day."""
        return self.plan.landing / "pgw_pipe" / f"{self.prefix}{number:06d}{'.gz' if written.day % 3 == 0 else ''}"

    def file(self, path: Path) -> Any:
        """Text without a header."""
        return text_file(path)


@dataclass
class PgwSeries(Series):
    """pgw_ts32297: TS 32.297 files."""

    def path(self, number: int, day: date, written: date) -> Path:
        """Node and number, as a gateway names them."""
        return self.plan.landing / "pgw_ts32297" / f"demo_PGW_{number:06d}.cdr"

    def file(self, path: Path) -> Any:
        """Charging records."""
        return charging_file(path, int(path.stem.rsplit("_", 1)[1]))


@dataclass
class ChfSeries(Series):
    """chf_ts32297: TS 32.297 files of a charging function."""

    def path(self, number: int, day: date, written: date) -> Path:
        """Day and number."""
        return self.plan.landing / "chf_ts32297" / f"chf_{day:%Y%m%d}_{number:06d}.cdr"

    def file(self, path: Path) -> Any:
        """Charging records."""
        return charging_file(path, int(path.stem.rsplit("_", 1)[1]))


@dataclass
class FlattenedSeries(Series):
    """pgw_flattened: Parquet."""

    schema: Any

    def path(self, number: int, day: date, written: date) -> Path:
        """Day and number."""
        return self.plan.landing / "pgw_flattened" / f"pgw_{day:%Y%m%d}_{number:04d}.parquet"

    def file(self, path: Path) -> Any:
        """Parquet."""
        return parquet_file(path, self.schema)


@dataclass
class FixedSeries(Series):
    """fixed_deltas: mostly .csv.gz, some days plain, the 10th with Zstandard."""

    header: bytes

    def path(self, number: int, day: date, written: date) -> Path:
        """Day and number."""
        suffix = ".zst" if written.day == 10 else "" if written.day % 4 == 1 else ".gz"
        return self.plan.landing / "fixed_deltas" / f"fixed_{day:%Y%m%d}_{number:04d}.csv{suffix}"

    def file(self, path: Path) -> Any:
        """Text with a header."""
        return text_file(path, self.header)
