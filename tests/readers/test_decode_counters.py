"""decode of counters: a look at what was used between the readings of some files, as the pipeline counts it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.cli import main
from jobs.decode_counters import decode_counters, masked, source_of
from jobs.run import CallError, Refused
from schemas.source import CounterSource
from tests.readers.ipdr_files import ipdr, samis, xdr_document, xml_document
from tests.readers.radius_files import packet

RADIUS = source_of("radius-detail", "up", "Europe/Paris")
RADACCT = source_of("radacct", "up", "Europe/Paris")
SAMIS, XDR = (source_of(name, "down", "Europe/Paris") for name in ("samis-xml", "ipdr-xdr"))
WRAP = 1 << 32


class Decoded:
    """Lines, what was told, and why it was refused."""

    def __init__(self, spark: Any, source: CounterSource, *paths: Path, is_clear: bool = True):
        self.lines, self.told, self.refusal = list[dict[str, Any]](), list[str](), None

        def say(line: str) -> None:
            self.lines.append(json.loads(line))

        try:
            decode_counters(source, [str(path) for path in paths], is_clear, lambda: spark, say, self.told.append)
        except Refused as refused:
            self.refusal = str(refused)

    def values(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(line[name] for name in names) for line in self.lines]


def written(folder: Path, octets: bytes, name: str = "detail") -> Path:
    (folder / name).write_bytes(octets)
    return folder / name


def of_radius(status: str, at: str, seconds: int, session: str = "s1", name: str = "ana@isp.example", **counters: int) -> bytes:
    """A packet of the 5th of October, UTC; the octets and packets of a direction it does not say are 0."""
    usual = dict.fromkeys(("Acct_Input_Octets", "Acct_Input_Packets", "Acct_Output_Octets", "Acct_Output_Packets"), 0)
    return packet(
        NAS_IP_Address="192.0.2.1",
        User_Name=f'"{name}"',
        Acct_Status_Type=status,
        Acct_Session_Id=f'"{session}"',
        Event_Timestamp=f'"Oct  5 2026 {at} UTC"',
        Acct_Session_Time=str(seconds),
        **{attribute: str(value) for attribute, value in (usual | counters).items()},
    )


WRAPPED = [
    of_radius("Start", "10:00:00", 0),
    of_radius("Interim-Update", "12:00:00", 7200, Acct_Output_Octets=WRAP - 296, Acct_Output_Packets=3_000_000),
    of_radius(
        "Stop",
        "13:00:00",
        10800,
        Acct_Output_Octets=704,
        Acct_Output_Packets=3_000_010,
        Acct_Input_Octets=5,
        Acct_Input_Packets=1,
    ),
]
LOST = [
    of_radius("Start", "10:00:00", 0, "s2", "bob"),
    of_radius("Alive", "11:00:00", 3600, "s2", "bob", Acct_Output_Octets=7, Acct_Output_Gigawords=1, Acct_Input_Gigawords=0),
    of_radius("Start", "20:00:00", 0, "s3", "eve"),
]  # fmt: skip


@pytest.mark.spark
def test_what_was_used_between_two_readings_is_a_line_and_a_session_goes_on_in_the_next_file(spark, tmp_path: Path):
    paths = [written(tmp_path, b"".join(WRAPPED[:2]), "detail-1"), written(tmp_path, WRAPPED[2] + WRAPPED[1], "detail-2")]

    decoded = Decoded(spark, RADIUS, *paths)

    assert decoded.values("opened_at", "closed_at", "octets_up", "octets_down", "wraps", "file") == [
        ("2026-10-05T10:00:00Z", "2026-10-05T10:00:00Z", 0, 0, 0, str(paths[0])),
        ("2026-10-05T10:00:00Z", "2026-10-05T12:00:00Z", 0, WRAP - 296, 0, str(paths[0])),
        ("2026-10-05T12:00:00Z", "2026-10-05T13:00:00Z", 5, 296 + 704, 1, str(paths[1])),
    ]
    assert decoded.lines[-1] == {
        "identifier_type": "line_id",
        "identifier": "ana@isp.example",
        "session": "s1",
        "status": "stop",
        "opened_at": "2026-10-05T12:00:00Z",
        "closed_at": "2026-10-05T13:00:00Z",
        "octets_up": 5,
        "octets_down": 1000,
        "is_estimated": False,
        "reason": None,
        "octets_unknown_at_most": 0,
        "wraps": 1,
        "record_ordinal": 1,
        "file": str(paths[1]),
        "node": "192.0.2.1",
    }
    assert decoded.told[1].startswith(f"{paths[1]}: 2 records, 1 readings, ")
    assert decoded.told[1].endswith("warnings: duplicate 1")
    assert decoded.told[2] == "3 intervals; not exact: none"


@pytest.mark.spark
def test_a_session_without_a_stop_is_flagged_once_it_was_silent_for_long_within_the_files(spark, tmp_path: Path):
    silent = Decoded(spark, RADIUS, written(tmp_path, b"".join(LOST)))
    going_on = Decoded(spark, RADIUS, written(tmp_path, b"".join(LOST[:2])))

    seconds = RADIUS.counters.silent_after_s + 60
    assert silent.values("session", "octets_down", "reason", "octets_unknown_at_most") == [
        ("s2", 0, None, 0),
        ("s2", WRAP + 7, "stop_is_missing", seconds * RADIUS.fastest_octets_per_s),
        ("s3", 0, None, 0),
    ]
    assert silent.told[-1] == "3 intervals; not exact: stop is missing 1"
    assert [line["reason"] for line in going_on.lines] == [None, None]


@pytest.mark.spark
def test_rejected_records_are_counted_by_reason_and_not_written(spark, tmp_path: Path):
    nobody = WRAPPED[0].replace(b"\tUser-Name", b"\tOther-Name")
    broken = WRAPPED[1].replace(b"UTC", b"XYZ")

    decoded = Decoded(spark, RADIUS, written(tmp_path, b"".join([*WRAPPED, nobody, broken])))

    assert len(decoded.lines) == 3
    assert decoded.refusal is None
    assert "rejected: identifier missing 1" in decoded.told[0]
    assert "rejected: time zone differs 1" in decoded.told[0]


@pytest.mark.spark
def test_names_are_masked_unless_asked_for(spark, tmp_path: Path):
    session = "ana@isp.example-02:00:5E:00:00:01-0123456789"
    packets = b"".join(one.replace(b'"s1"', f'"{session}"'.encode()) for one in WRAPPED)

    decoded = Decoded(spark, RADIUS, written(tmp_path, packets), is_clear=False)

    assert set(decoded.values("identifier", "session")) == {
        ("ana@i**********", "ana@i**********-02:00************-01234*****")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identifier", "session", "shown"),
    [
        ("ana", "00000A7F", ("a**", "00000A7F")),
        ("02005e000001", "1001", ("02005*******", "1001")),
        ("line-00000012", "x.LINE-00000012", ("line-********", "x.LINE-********")),
    ],
)
def test_a_masked_name_never_shows_more_than_half(identifier: str, session: str, shown: tuple[str, str]):
    interval = masked({"identifier": identifier, "session": session})

    assert (interval["identifier"], interval["session"]) == shown


FLOWS = [
    samis(
        1,
        RecCreationTime=datetime(2026, 10, 5, 10, tzinfo=UTC) + timedelta(minutes=15 * step),
        CmtsSysUpTime=1_000_000 + step * 15 * 60 * 100,
        ServiceTimeCreated=1_000_000 - 60 * 100,
        ServiceTimeActive=60 + step * 15 * 60,
        ServiceDirection=direction,
        ServiceIdentifier=1000 + direction,
        ServiceOctetsPassed=octets,
        RecType=2 if step == 2 else 1,
    )
    for direction, counters in ((1, (500, 5_000, 5_001)), (2, (50, 60, 90)))
    for step, octets in enumerate(counters)
]


@pytest.mark.spark
def test_samis_documents_in_xml_and_xdr_have_the_same_deltas(spark, tmp_path: Path):
    xml = written(tmp_path, xml_document([ipdr(values) for values in FLOWS]), "a.xml")
    xdr = written(tmp_path, pa.compress(xdr_document(FLOWS), "gzip", asbytes=True), "a.xdr.gz")

    of_xml, of_xdr = Decoded(spark, SAMIS, xml), Decoded(spark, XDR, xdr)

    assert of_xml.values("session", "status", "octets_up", "octets_down") == [
        ("1001", "interim", 0, 500),
        ("1001", "interim", 0, 4_500),
        ("1001", "stop", 0, 1),
        ("1002", "interim", 50, 0),
        ("1002", "interim", 10, 0),
        ("1002", "stop", 30, 0),
    ]
    assert [line | {"file": ""} for line in of_xdr.lines] == [line | {"file": ""} for line in of_xml.lines]
    assert of_xml.lines[0]["identifier"] == "000000000001"
    assert of_xml.told[0].startswith(f"{xml}: 6 records (its end says 6), 6 readings, ")


@pytest.mark.spark
def test_rows_of_radacct_are_totals_of_their_sessions(spark, tmp_path: Path):
    header = "acctsessionid,username,nasipaddress,nasportid,acctstarttime,acctupdatetime,acctstoptime,acctsessiontime,"
    rows = [
        header + "acctinputoctets,acctoutputoctets",
        "s1,ana,192.0.2.1,,2026-10-05 12:00:00,,2026-10-05 13:00:00,3600,5,1000",
        "s2,ana,192.0.2.1,,2026-10-05 12:00:00+02:00,2026-10-05 12:10:00+02:00,,600,1,2",
    ]
    path = written(tmp_path, "\n".join([*rows, ""]).encode(), "radacct.csv")

    decoded = Decoded(spark, RADACCT, path)

    assert decoded.values("session", "status", "opened_at", "closed_at", "octets_up", "octets_down") == [
        ("s1", "stop", "2026-10-05T10:00:00Z", "2026-10-05T11:00:00Z", 5, 1000),
        ("s2", "interim", "2026-10-05T10:00:00Z", "2026-10-05T10:10:00Z", 1, 2),
    ]


@pytest.mark.parametrize(
    ("source", "octets", "reason"),
    [
        (RADIUS, b"who,octets\nana,1\n", "not a FreeRADIUS detail file"),
        (RADIUS, xml_document([ipdr(samis())]), "this is XML, not a FreeRADIUS detail file"),
        (RADACCT, WRAPPED[0], "the header lacks "),
        (SAMIS, WRAPPED[0], "not an IPDRDoc (XML)"),
        (SAMIS, xdr_document([samis()]), "not an IPDRDoc (XML)"),
        (XDR, xml_document([ipdr(samis())]), "not an IPDR/XDR document"),
        (XDR, b"", "the file is empty"),
    ],
)
def test_wrong_content_is_refused_by_name_and_spark_is_not_started(
    tmp_path: Path, source: CounterSource, octets: bytes, reason: str
):
    path = written(tmp_path, octets)

    decoded = Decoded(None, source, path)

    assert decoded.lines == []
    assert decoded.refusal is not None
    assert decoded.refusal.startswith(f"{path}: ")
    assert reason in decoded.refusal


@pytest.mark.spark
def test_the_other_files_are_read_when_one_is_refused(spark, tmp_path: Path):
    paths = [tmp_path / "absent", written(tmp_path, b"".join(WRAPPED))]

    decoded = Decoded(spark, RADIUS, *paths)

    assert len(decoded.lines) == 3
    assert decoded.refusal == f"{paths[0]}: there is no such file"


@pytest.mark.parametrize("format_name", ["radius-detail", "samis-xml"])
def test_the_direction_is_never_guessed(format_name: str):
    with pytest.raises(CallError, match="writers disagree"):
        source_of(format_name, None, "Europe/Paris")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "radius-detail"], "needs --input-octets up or down"),
        (["--format", "ipdr-xdr", "--input-octets", "up"], "--input-octets is for the formats radius-detail, radacct"),
        (["--format", "ts32297", "--zone", "Europe/Paris"], "--zone is for the formats"),
        (["--format", "radius-detail", "--input-octets", "up", "--zone", "Paris"], "Paris is not an IANA time zone"),
        (["--format", "radacct", "--input-octets", "up", "--delimiter", "::"], "should match pattern"),
    ],
)
def test_a_wrong_call_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str):
    assert main(["decode", *options, str(written(tmp_path, WRAPPED[0]))]) == 2

    assert said in capsys.readouterr().err


def test_a_refused_file_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, b"junk")

    assert main(["decode", "--format", "ipdr-xdr", "--service-direction-1", "down", str(path)]) == 1

    assert capsys.readouterr().out == ""
