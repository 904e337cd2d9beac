"""A Spark data source of 3GPP charging records: ``spark.read.format("ts32298").load(path)``.

For whoever wants to look at charging files with Spark, apart from the pipeline, whose reader it is. Register it once a session:
``spark.dataSource.register(ChargingDataSource)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from jobs.decode import masked_texts
from jobs.files import parts_of, read_records
from jobs.places import filesystem
from jobs.readers.block import Part, Tally
from jobs.run import CallError, place
from schemas.source import CHARGING_COLUMNS, UsageSource, read_source

PART_OCTETS = 64 << 20
_TEXTS = (
    *("recordType", "servedIMSI", "servedMSISDN", "accessPointNameNI", "nodeID", "gatewayAddress"),
    *("servingNodePLMNIdentifier", "chargingSessionIdentifier"),
)
_INSTANTS = ("recordOpeningTime", "intervalOpened", "intervalClosed")
_IDENTIFYING = ("servedIMSI", "servedMSISDN", "chargingSessionIdentifier")


def _type_of(name: str) -> pa.DataType:
    return pa.string() if name in _TEXTS else pa.timestamp("us", "UTC") if name in _INSTANTS else pa.int64()


SCHEMA = pa.schema(
    [("file_name", pa.string())]
    + [(name, pa.int64()) for name in ("record_ordinal", "byte_offset", "interval_index")]
    + [("fault", pa.string())]
    + [(name, _type_of(name)) for name in CHARGING_COLUMNS]
)
"""A row an interval: where it was read, what is wrong with its record (null: nothing), its elements as TS 32.298 names them."""


class ChargingDataSource(DataSource):
    """Charging records of a file, or of the files of a folder.

    Options:
        path: a file or folder, local or of an object store.
        source: a source file (TOML) whose [charging] table says what counts.
        identifiers: ``masked`` (the default: the first five digits) or ``clear``.

    Columns are those of SCHEMA. Files are read in parallel, large ones in parts from record boundary to record boundary.
    """

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "ts32298"

    def schema(self) -> StructType:
        """SCHEMA as Spark has it."""
        return from_arrow_schema(SCHEMA)

    def reader(self, schema: StructType) -> ChargingReader:
        """Raises CallError if an option is missing or unknown."""
        unknown = sorted(set(self.options) - {"path", "source", "identifiers"})
        missing = sorted({"path", "source"} - set(self.options))
        if unknown or missing:
            raise CallError(f"ts32298: option {(unknown or missing)[0]} is {'not known' if unknown else 'missing'}")
        source = read_source(Path(self.options["source"]))
        if not isinstance(source, UsageSource) or source.charging is None:
            raise CallError(f"ts32298: {self.options['source']} is no source of charging records")
        return ChargingReader(place(self.options["path"]), source, self.options.get("identifiers", "masked") == "clear")


@dataclass
class _Piece(InputPartition):
    """A file, or a part of a large one."""

    place: str
    size_octets: int
    part: Part


class ChargingReader(DataSourceReader):
    """Finds the files, cuts the large ones, and reads each piece into Arrow batches."""

    def __init__(self, folder: str, source: UsageSource, is_clear: bool) -> None:
        """Read what the source says counts; every column of it, not only those the pipeline keeps."""
        self.folder, self.source, self.is_clear = folder, source, is_clear

    def partitions(self) -> Sequence[InputPartition]:
        """A piece each; files that are not finished or do not match the source's pattern are left out."""
        files, path = filesystem(self.folder)
        found = files.get_file_info(path)
        entries = [found] if found.type == fs.FileType.File else files.get_file_info(fs.FileSelector(path, recursive=True))
        rules = self.source.files
        pieces = []
        for entry in sorted((e for e in entries if e.type == fs.FileType.File), key=lambda e: str(e.path)):
            if entry.base_name.endswith(rules.unfinished_suffixes):
                continue
            where = self.folder if entry is found else f"{self.folder}/{entry.path[len(path) :].lstrip('/')}"
            pieces += [_Piece(where, entry.size, part) for part in parts_of(where, entry.size, self.source, PART_OCTETS, 1)]
        return pieces

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Arrow batches of SCHEMA."""
        assert isinstance(partition, _Piece)
        where_from = (partition.place, partition.size_octets, self.source, Tally(), partition.part)
        for block in read_records(*where_from, columns=CHARGING_COLUMNS):
            columns: dict[str, Any] = {name: block.records.column(name) for name in CHARGING_COLUMNS}
            if not self.is_clear:
                columns |= {name: masked_texts(columns[name]) for name in _IDENTIFYING}
            rows = len(block.ordinals)
            where = {"file_name": pa.repeat(partition.place.rsplit("/", 1)[-1], rows), "record_ordinal": block.ordinals}
            where |= {"byte_offset": block.offsets, "interval_index": block.interval_index, "fault": block.faults}
            arrays = [pa.array(values) if not isinstance(values, pa.Array) else values for values in (where | columns).values()]
            yield pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA)
