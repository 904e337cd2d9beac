"""decode: a look inside a file as JSON lines, identifiers masked unless asked for, what was wrong in the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.decode import decode
from jobs.run import Refused
from tests.readers.ber import (
    Element,
    FileForm,
    encoded,
    file_of,
    msisdn,
    primitive,
    record,
    stamp,
    subscriber,
    unit_usage,
    used_units,
)
from tests.readers.charging_files import SEVEN, SIX, pgw


def decoded(format_name: str, *paths: Path, is_clear: bool = False) -> tuple[list[dict[str, Any]], list[str], str | None]:
    """Intervals, the summary, and why it was refused."""
    lines, told, refusal = [], [], None
    try:
        decode(format_name, [str(path) for path in paths], is_clear, lines.append, told.append)
    except Refused as refused:
        refusal = str(refused)
    return [json.loads(line) for line in lines], told, refusal


def written(folder: Path, octets: bytes, name: str = "a.cdr") -> Path:
    (folder / name).write_bytes(octets)
    return folder / name


def test_an_interval_is_a_line_with_its_place(tmp_path: Path):
    path = written(tmp_path, file_of([pgw(recordSequenceNumber=4, localSequenceNumber=9, rATType=6)]))

    intervals, told, refusal = decoded("ts32297", path, is_clear=True)

    assert intervals == [
        {
            "record_type": "pgw",
            "identifier_type": "imsi",
            "identifier": "001010000000001",
            "session": 7,
            "sequence": 4,
            "opened_at": "2026-10-31T18:00:00Z",
            "closed_at": "2026-10-31T19:00:00Z",
            "octets_up": 1,
            "octets_down": 2,
            "is_estimated": False,
            "rating_group": 10,
            "rat_type": 6,
            "node": "gw1",
            "gateway_address": "c0000201",
            "local_sequence": 9,
            "apn": "internet",
            "serving_plmn": "",
            "cause": 16,
            "record_ordinal": 1,
            "byte_offset": 57,
            "interval_index": 0,
        }
    ]
    octets = path.stat().st_size
    assert told == [f"{path}: 1 records (header says 1), 1 intervals, {octets} octets read, 0 quarantined; warnings: none"]
    assert refusal is None


def test_identifiers_and_sessions_are_masked_unless_asked_for(tmp_path: Path):
    session = {
        "subscriberIdentifier": subscriber(1, "imsi-001010000000001"),
        "chargingSessionIdentifier": "imsi-001010000000001-SMF",
    }
    used = (unit_usage(1, used_units(up=1, down=2)),)
    chf = record("chf", **session, listOfMultipleUnitUsage=used, recordOpeningTime=stamp(SIX), duration=60)
    path = written(tmp_path, encoded(chf) + pgw(servedIMSI=None, servedMSISDN=msisdn("33639980001")))

    masked, _, _ = decoded("ber", path)
    clear, _, _ = decoded("ber", path, is_clear=True)

    assert [(line["identifier_type"], line["identifier"], line["session"]) for line in masked] == [
        ("imsi", "00101**********", "imsi-00101**********-SMF"),
        ("msisdn", "33639******", 7),
    ]
    assert [line["identifier"] for line in clear] == ["001010000000001", "33639980001"]


def test_faults_are_counted_and_not_written(tmp_path: Path):
    damaged = pgw(recordOpeningTime=b"\xff" * 9)
    path = written(tmp_path, file_of([pgw(), damaged, pgw()], FileForm(lost_indicator=130), [b"", b"garbage"]))

    intervals, told, refusal = decoded("ts32297", path)

    assert [line["record_ordinal"] for line in intervals] == [1, 4]
    assert refusal is None
    for said in (
        "4 records (header says 3)",
        "2 intervals",
        "7 quarantined",
        "not a record 1",
        "time malformed 1",
        "by the header 2",
    ):
        assert said in told[0]


def test_what_no_calendar_holds_is_a_fault_and_not_the_end_of_the_reading(tmp_path: Path):
    path = written(tmp_path, pgw(duration=2**60, listOfServiceData=None) + pgw())

    intervals, told, _ = decoded("ber", path)

    assert [line["record_ordinal"] for line in intervals] == [2]
    assert "rejected: integer out of range 1" in told[0]


def test_files_are_decompressed_by_their_suffix(tmp_path: Path):
    octets = file_of([pgw()])
    paths = [
        written(tmp_path, pa.compress(octets, codec, asbytes=True), f"a.cdr{suffix}")
        for suffix, codec in ((".gz", "gzip"), (".zst", "zstd"))
    ]

    intervals, _, refusal = decoded("ts32297", *paths)

    assert (len(intervals), refusal) == (2, None)


def test_the_other_files_are_read_when_one_is_refused(tmp_path: Path):
    paths = [
        written(tmp_path, b"who,octets\nana,1\n", "a.csv"),
        written(tmp_path, file_of([pgw()]), "b.cdr"),
        tmp_path / "absent.cdr",
    ]

    intervals, told, refusal = decoded("ts32297", *paths)

    assert len(intervals) == 1
    reasons = [f"{paths[0]}: this is text, not a TS 32.297 file", f"{paths[2]}: there is no such file"]
    assert [line for line in told if line in reasons] == reasons
    assert refusal == f"2 of 3 files, the first {reasons[0]}"


def test_the_one_file_that_is_refused_is_named(tmp_path: Path):
    path = written(tmp_path, b"")

    assert decoded("ber", path)[2] == f"{path}: the file is empty"


@pytest.mark.parametrize("name", ["empty.gz", "cut.gz"])
def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path, name: str):
    whole = pa.compress(pgw(accessPointNameNI=bytes(range(32, 127)) * 2), "gzip", asbytes=True)
    path = written(tmp_path, whole[: -len(whole) // 2] if name == "cut.gz" else b"", name)

    assert decoded("ber", path)[2] == f"{path}: the compressed stream is damaged or truncated"


def test_a_folder_is_refused(tmp_path: Path):
    assert decoded("ber", tmp_path)[2] == f"{tmp_path}: it cannot be opened"


def test_every_container_is_shown_whatever_a_source_would_count(tmp_path: Path):
    wrong = record(
        "sgw",
        recordOpeningTime=stamp(SIX),
        duration=60,
        listOfTrafficVolumes=(Element(16, (primitive(3, 5), primitive(6, stamp(SEVEN))), 0),),
    )

    intervals, _, _ = decoded("ber", written(tmp_path, encoded(wrong)))

    assert [(line["record_type"], line["octets_up"], line["closed_at"]) for line in intervals] == [
        ("sgw", 5, "2026-10-31T19:00:00Z")
    ]
