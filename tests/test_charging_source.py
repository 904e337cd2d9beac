"""Charging files as a Spark data source: the pipeline's own reader, in parallel, without a lake."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jobs.run import PROJECT

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SOURCE = PROJECT / "schemas" / "sources" / "pgw_ts32297.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from jobs.demo import generate

    landing = tmp_path_factory.mktemp("landing")
    generate(landing, date(2026, 10, 1), 20, 3, records_per_day=2, formats=("ts32297",))
    return landing / "pgw_ts32297"


def load(spark, folder: Path, **options: str):
    from jobs.charging_source import ChargingDataSource

    spark.dataSource.register(ChargingDataSource)
    reader = spark.read.format("ts32298").option("source", str(SOURCE))
    return reader.options(**options).load(str(folder))


def test_a_folder_is_read_as_footprint_decode_reads_its_files(spark, folder):
    import json

    from jobs.decode import decode

    lines: list[str] = []
    decode("ts32297", [str(path) for path in sorted(folder.iterdir())], True, lines.append, lambda _: None)
    decoded = [json.loads(line) for line in lines]

    found = load(spark, folder, identifiers="clear").where("fault IS NULL").collect()

    assert len(found) == len(decoded) > 500
    expected = sorted(
        (r["identifier"], r["local_sequence"], r["octets_up"], r["octets_down"], r["rating_group"]) for r in decoded
    )
    names = ("servedIMSI", "localSequenceNumber", "uplinkOctets", "downlinkOctets", "ratingGroup")
    assert sorted(tuple(row[name] for name in names) for row in found) == expected


def test_identifiers_are_masked_unless_they_are_asked_for(spark, folder):
    found = load(spark, folder).where("fault IS NULL").select("servedIMSI").distinct().collect()

    assert {row.servedIMSI for row in found} == {"00101***", "26201***"}


def test_large_files_are_read_in_parts_on_several_partitions(spark, folder, monkeypatch):
    from jobs import charging_source
    from jobs.charging_source import ChargingReader
    from schemas.source import UsageSource, read_source

    monkeypatch.setattr(charging_source, "PART_OCTETS", 500)
    file, source = sorted(folder.iterdir())[3], read_source(SOURCE)
    assert isinstance(source, UsageSource)
    reader = ChargingReader(str(file), source, True)

    pieces = reader.partitions()
    ordinals = [number for piece in pieces for batch in reader.read(piece) for number in batch["record_ordinal"].to_pylist()]

    assert len(pieces) > 2
    assert sorted(set(ordinals)) == list(range(1, max(ordinals) + 1))
    assert ordinals == sorted(ordinals)


@pytest.mark.parametrize(("options", "says"), [({"sourc": "x"}, "sourc is not known"), ({"identifiers": "masked"}, None)])
def test_an_option_that_is_not_known_is_named(spark, folder, options, says):
    from pyspark.errors import PySparkException

    if says is None:
        assert load(spark, folder, **options).columns
        return
    with pytest.raises(PySparkException, match=says):
        load(spark, folder, **options).collect()
