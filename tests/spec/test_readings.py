"""What accounting packets and service-flow records come to: whose counters, since when, read when, and what they said."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from jobs.outcomes import Counts, Policy
from jobs.pseudonyms import FROM_THE_BEGINNING, Key
from jobs.readers.block import Block, no_faults
from jobs.readings import reading_outcomes
from schemas.source import CounterSource, read_source
from tests.conftest import keys_of

SOURCES = Path(__file__).resolve().parents[2] / "schemas" / "sources"
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "radius"
IDENTIFIER, LATER, SERVING = (Key(name, bytes([n] * 32)) for name, n in (("identifier", 1), ("identifier", 2), ("serving", 3)))

PACKET = {
    "User-Name": "LINE-1",
    "NAS-IP-Address": "192.0.2.10",
    "Acct-Status-Type": "Interim-Update",
    "Acct-Session-Id": "A1",
    "Acct-Session-Time": "600",
    "Acct-Input-Octets": "10",
    "Acct-Output-Octets": "20",
    "Event-Timestamp": "1793000000",
}
FLOW = {
    "CmtsHostName": "cmts1",
    "CmMacAddr": "00-11-22-aa-bb-cc",
    "CmtsSysUpTime": "1000000",
    "RecType": "Interim",
    "RecCreationTime": "2026-10-05T10:15:00.000Z",
    "ServiceIdentifier": "7",
    "ServiceDirection": "1",
    "ServiceOctetsPassed": "5000",
    "ServicePktsPassed": "10",
    "ServiceTimeCreated": "910000",
    "ServiceTimeActive": "900",
}
ROW = {
    "username": "LINE-1",
    "acctsessionid": "A1",
    "nasipaddress": "192.0.2.10",
    "nasportid": "p1",
    "acctstarttime": "2026-10-05 10:00:00+00",
    "acctupdatetime": "2026-10-05 10:10:00+00",
    "acctsessiontime": "600",
    "acctinputoctets": "10",
    "acctoutputoctets": "8589934592",
}


def source_of(name: str = "bng_radius", **counters: object) -> CounterSource:
    source = read_source(SOURCES / f"{name}.toml")
    assert isinstance(source, CounterSource)
    return source.model_copy(update={"counters": source.counters.model_copy(update=counters)})


def radacct() -> CounterSource:
    text = (SOURCES / "bng_radius.toml").read_text(encoding="utf-8").replace("radius-detail", "radacct")
    text = text.replace("User-Name", "username") + '\n[delimited]\ndelimiter = ","\nheader = true\n'
    place = Path(tempfile.mkdtemp()) / "radacct.toml"
    place.write_text(text, encoding="utf-8")
    source = read_source(place)
    assert isinstance(source, CounterSource)
    return source


def outcomes(
    packets: Iterable[dict[str, str]], source: CounterSource | None = None, keys=None
) -> tuple[list[dict], list[dict], Counts]:
    """Readings, rejections and counts of some packets."""
    source, packets = source or source_of(), list(packets)
    columns = {name: pa.array([packet.get(name) for packet in packets], pa.string()) for name in source.whitelist}
    rows = np.arange(len(packets), dtype=np.int64)
    block = Block(pa.RecordBatch.from_pydict(columns), rows + 1, rows * 100, no_faults(len(packets)))
    policy = Policy(
        ZoneInfo("Europe/Paris"), keys or keys_of((FROM_THE_BEGINNING, IDENTIFIER)), keys_of((FROM_THE_BEGINNING, SERVING))
    )
    counts, found = Counts(), {"accepted": [], "rejected": []}
    for part in reading_outcomes(block, source, policy, counts):
        arrays = {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in part.items()}
        for row in pa.table(arrays).to_pylist():
            found[row.pop("kind")].append(row)
    return found["accepted"], found["rejected"], counts


def one(packet: dict[str, str], source: CounterSource | None = None) -> dict:
    accepted, rejected, _ = outcomes([packet], source)
    assert not rejected, rejected[0]["reason"]
    return accepted[0]


def reason(packet: dict[str, str], source: CounterSource | None = None) -> str:
    accepted, rejected, _ = outcomes([packet], source)
    assert not accepted
    return rejected[0]["reason"]


def at(instant: str) -> datetime:
    return datetime.fromisoformat(instant).replace(tzinfo=UTC)


# RADIUS


def attributes(path: Path) -> dict[str, str]:
    """The input packet of FreeRADIUS's own accounting tests."""
    packet = path.read_text(encoding="utf-8").split("Expected answer")[0]
    return {name: value.strip().strip("'\"") for name, value in re.findall(r"^([\w.-]+) = (.*)$", packet, re.MULTILINE)}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
def test_freeradius_own_packets_count_gigawords_and_name_their_zone():
    names = ("0_start", "1_update", "2_stop", "start_conflict", "update_no_start")
    packets = [attributes(SAMPLES / f"freeradius_sql_acct_{name}.attrs") for name in names]
    source = source_of(zone="Asia/Jakarta")
    source = source.model_copy(update={"identifiers": source.identifiers.model_copy(update={"line_id_pattern": ".+"})})

    accepted, rejected, _ = outcomes(packets, source)

    assert not rejected
    wide = 1 << 32
    assert [(r["status"], r["counter_octets_up"], r["counter_octets_down"], r["elapsed_s"]) for r in accepted] == [
        ("start", 0, 0, 0),
        ("interim", wide + 10, wide + 10, 0),
        ("stop", wide + 15, wide + 15, 120),
        ("start", 0, 0, 0),
        ("interim", wide + 10, wide + 10, 30),
    ]
    assert accepted[2]["closed_at"] == at("2015-02-01T01:28:58")  # WIB is seven hours ahead
    assert accepted[2]["started_at"] == at("2015-02-01T01:26:58")
    assert {r["node"] for r in accepted} == {"nas.example.org"}
    assert {r["counter_bits"] for r in accepted} == {64}


def test_octets_go_the_way_the_source_says_and_are_32_bit_without_gigawords():
    as_written = one(PACKET)
    other_way = one(PACKET, source_of(input_octets="down"))
    wide = one(PACKET | {"Acct-Input-Gigawords": "2"})

    assert (as_written["counter_octets_up"], as_written["counter_octets_down"], as_written["counter_bits"]) == (10, 20, 32)
    assert (other_way["counter_octets_up"], other_way["counter_octets_down"]) == (20, 10)
    assert (wide["counter_octets_up"], wide["counter_bits"]) == (2 * (1 << 32) + 10, 64)


def test_a_missing_counter_is_not_0():
    stop = one({name: value for name, value in PACKET.items() if "Octets" not in name} | {"Acct-Status-Type": "Stop"})

    assert (stop["counter_octets_up"], stop["counter_octets_down"]) == (None, None)


@pytest.mark.parametrize(
    ("times", "closed"),
    [
        ({"Event-Timestamp": "Oct 25 2026 02:30:00 CEST"}, "2026-10-25T00:30:00"),
        ({"Event-Timestamp": "Oct 25 2026 02:30:00 CET"}, "2026-10-25T01:30:00"),
        ({"Event-Timestamp": "Oct  5 2026 12:00:00 UTC"}, "2026-10-05T12:00:00"),
        ({"Event-Timestamp": "2026-10-05T12:00:00+02:00"}, "2026-10-05T10:00:00"),
        ({"Event-Timestamp": None, "Timestamp": "1793000000", "Acct-Delay-Time": "7"}, "2026-10-26T07:33:13"),
        ({"Event-Timestamp": None, "Timestamp": "1793000000"}, "2026-10-26T07:33:20"),
        (
            {"Event-Timestamp": None, "Packet-Header-Time": "Mon Oct  5 12:00:00 2026", "Acct-Delay-Time": "5"},
            "2026-10-05T09:59:55",
        ),
        # The delay is that of the packet, not of the event.
        ({"Event-Timestamp": "1793000000", "Acct-Delay-Time": "7", "Timestamp": "1793000009"}, "2026-10-26T07:33:20"),
    ],
)
def test_counters_were_read_when_the_event_was_or_when_the_packet_came_less_its_delay(times, closed):
    assert one(PACKET | times)["closed_at"] == at(closed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Event-Timestamp": "Oct  5 2026 12:00:00 CET"}, "time_zone_differs"),
        ({"Event-Timestamp": "Oct  5 2026 12:00:00 PST"}, "time_zone_differs"),
        ({"Event-Timestamp": "yesterday"}, "time_malformed"),
        ({"Event-Timestamp": "Feb 30 2026 12:00:00 CET"}, "time_malformed"),
        ({"Event-Timestamp": None, "Packet-Header-Time": "Sun Oct 25 02:30:00 2026"}, "time_ambiguous"),
        ({"Event-Timestamp": None, "Packet-Header-Time": "Sun Mar 29 02:30:00 2026"}, "time_does_not_exist"),
        ({"Event-Timestamp": None}, "time_missing"),
        ({"Acct-Session-Time": None}, "session_time_malformed"),
        ({"Acct-Session-Time": "99999999"}, "session_time_out_of_range"),
        ({"Acct-Session-Id": None}, "session_missing"),
        ({"NAS-IP-Address": None}, "node_missing"),
        ({"User-Name": None}, "identifier_missing"),
        ({"Acct-Status-Type": "Restart"}, "status_unknown"),
        ({"Acct-Input-Octets": "4294967296"}, "volume_out_of_range"),
        ({"Acct-Input-Octets": "-1"}, "volume_negative"),
        ({"Acct-Output-Octets": "12x"}, "volume_malformed"),
    ],
)
def test_a_packet_that_cannot_be_understood_is_rejected_by_name(changed, said):
    assert reason(PACKET | changed) == said


def test_a_network_element_that_begins_anew_names_nobody():
    accepted, rejected, counts = outcomes(
        [
            {"Acct-Status-Type": "Accounting-On", "NAS-IP-Address": "192.0.2.10", "Timestamp": "1793000000"},
            {"Acct-Status-Type": "8", "NAS-IP-Address": "192.0.2.10", "Timestamp": "1793000000"},
            {"Acct-Status-Type": "Failed", "NAS-IP-Address": "192.0.2.10", "Timestamp": "1793000000"},
        ]
    )

    assert [(r["status"], r["identifier_key"], r["session_key"], r["started_at"]) for r in accepted] == [
        ("reset", None, None, None)
    ] * 2
    assert not rejected
    assert counts.out_of_scope["other_status"] == 1


def test_the_same_packet_has_one_key_and_another_reading_another():
    accepted, _, _ = outcomes(
        [PACKET, PACKET | {"Acct-Delay-Time": "9"}, PACKET | {"Acct-Output-Octets": "21"}, PACKET | {"Acct-Session-Id": "B"}]
    )
    keys = [r["record_key"] for r in accepted]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert len({r["session_key"] for r in accepted}) == 2
    assert "LINE-1" not in str(accepted)


def test_in_the_first_month_of_other_keys_a_reading_has_those_before_too():
    keys = keys_of((FROM_THE_BEGINNING, IDENTIFIER), (date(2026, 11, 1), LATER))
    october, november, december = (
        outcomes([PACKET | {"Event-Timestamp": when}], keys=keys)[0][0]
        for when in ("2026-10-31T12:00:00Z", "2026-11-01T12:00:00Z", "2026-12-01T12:00:00Z")
    )

    assert november["session_key_before"] == october["session_key"]
    assert november["identifier_key_before"] == october["identifier_key"]
    assert december["session_key"] == november["session_key"] != october["session_key"]
    assert october.get("session_key_before") is None
    assert december.get("session_key_before") is None


# radacct


def test_a_row_of_radacct_is_the_latest_reading_of_its_session():
    open_, stopped, begun = (
        one(ROW | changed, radacct())
        for changed in ({}, {"acctstoptime": "2026-10-05 10:12:00+00"}, {"acctupdatetime": None, "acctsessiontime": None})
    )

    assert (open_["status"], open_["elapsed_s"], open_["counter_octets_down"], open_["counter_bits"]) == (
        "interim",
        600,
        2 << 32,
        64,
    )
    assert (stopped["status"], stopped["elapsed_s"], stopped["closed_at"]) == ("stop", 720, at("2026-10-05T10:12:00"))
    assert (begun["status"], begun["elapsed_s"]) == ("start", 0)
    assert one(ROW | {"acctupdatetime": "2026-10-05 12:10:00"}, radacct())["closed_at"] == at("2026-10-05T10:10:00")
    assert reason(ROW | {"acctupdatetime": "2026-10-25 02:10:00"}, radacct()) == "time_ambiguous"
    assert reason(ROW | {"acctstarttime": "2026-10-06 10:00:00+00"}, radacct()) == "ends_before_it_starts"


# SAMIS


def test_a_service_flow_counts_one_direction_since_it_was_created():
    cable = source_of("cable_samis")
    down = one(FLOW, cable)
    up = one(FLOW | {"ServiceDirection": "2"}, cable)
    contrary = one(FLOW, source_of("cable_samis", service_direction_1="up"))
    named = one(FLOW | {"ServiceDirection": "Upstream"}, source_of("cable_samis", service_direction_1="up"))

    assert (down["counter_octets_up"], down["counter_octets_down"], down["counter_bits"]) == (0, 5000, 64)
    assert (up["counter_octets_up"], up["counter_octets_down"]) == (5000, 0)
    assert (contrary["counter_octets_up"], contrary["counter_octets_down"]) == (5000, 0)
    assert (named["counter_octets_up"], named["counter_octets_down"]) == (5000, 0)
    assert (down["elapsed_s"], down["started_at"]) == (900, at("2026-10-05T10:00:00"))
    assert down["session_key"] != up["session_key"]


def test_the_uptime_of_a_cable_head_wraps_and_a_flow_without_it_is_as_old_as_it_says():
    cable = source_of("cable_samis")
    wrapped = one(FLOW | {"CmtsSysUpTime": "10000", "ServiceTimeCreated": str((1 << 32) - 10000)}, cable)
    silent = one(FLOW | {"ServiceTimeCreated": None, "ServiceTimeActive": "60"}, cable)

    assert wrapped["elapsed_s"] == 200
    assert silent["elapsed_s"] == 60


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ServiceDirection": "3"}, "direction_unknown"),
        ({"RecType": "9"}, "status_unknown"),
        ({"ServiceOctetsPassed": None}, "volume_missing"),
        ({"ServiceOctetsPassed": "18446744073709551615"}, "volume_malformed"),
        ({"CmMacAddr": "00-11-22"}, "identifier_malformed"),
        ({"CmtsHostName": ""}, "node_missing"),
        ({"RecCreationTime": None}, "time_missing"),
        ({"ServiceTimeCreated": None, "ServiceTimeActive": None}, "active_time_malformed"),
    ],
)
def test_a_service_flow_that_cannot_be_understood_is_rejected_by_name(changed, said):
    assert reason(FLOW | changed, source_of("cable_samis")) == said


def test_a_stop_that_lost_its_counter_still_ends_the_flow():
    assert one(FLOW | {"RecType": "2", "ServiceOctetsPassed": None}, source_of("cable_samis"))["counter_octets_down"] is None
