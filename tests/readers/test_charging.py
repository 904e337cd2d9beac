"""3GPP charging records: a row an interval, octets counted once, the same whatever writer, container or window.

The octets are made by ``ber``. What GPRS records say is read by pycrate, an independent decoder compiled from the ASN.1; it has
no CHF records, so those are compared with the values that were put in.
"""

from __future__ import annotations

import gzip
import json
import warnings
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.files import read_records
from jobs.readers.block import NodeDay, ReadFault, Tally
from jobs.readers.charging import file_header, parts, read_charging
from schemas.source import CHARGING_COLUMNS, SourceError, UsageSource, read_source
from tests.readers.ber import (
    FREE5GC,
    OPEN5GS,
    RECORDS,
    UNIVERSAL,
    Element,
    FileForm,
    cdr_header,
    encoded,
    file_of,
    gsn_address,
    in_blocks,
    length,
    msisdn,
    pdu_session,
    plmn,
    primitive,
    record,
    secondary_report,
    service_data,
    short_stamp,
    stamp,
    subscriber,
    tag,
    tbcd,
    traffic_volume,
    unit_usage,
    used_units,
    vendor_file_of,
)
from tests.readers.charging_files import EIGHT, EVERY, PROJECT, SAMPLES, SEVEN, SIX, layout, pgw, pgw_tree, read

SHIPPED = PROJECT / "schemas" / "sources"
INTERVAL = ("intervalOpened", "intervalClosed", "uplinkOctets", "downlinkOctets")
OCTETS = ("uplinkOctets", "downlinkOctets")


def chf(**values: Any) -> bytes:
    """A CHF-CDR of an hour without containers, unless given some."""
    usual: dict[str, Any] = {
        "recordType": 200,
        "nodeID": "chf1",
        "subscriberIdentifier": subscriber(1, "imsi-001010000000001"),
        "recordOpeningTime": stamp(SIX),
        "duration": 3600,
        "causeForRecClosing": 0,
        "chargingSessionIdentifier": "session-1",
    }
    return encoded(record("chf", **{**usual, **values}))


def one(octets: bytes, *names: str, **settings: Any) -> Any:
    """Columns of the one row of one sound record."""
    reading = read(octets, layout(**settings))
    assert reading.faults == [None]
    (values,) = reading.values(*names)
    return values


def fault(octets: bytes, **settings: Any) -> str | None:
    """What is wrong with the one record."""
    (found,) = read(octets, layout(**settings)).faults
    return found


# Samples


needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the project")


def sample_files(*patterns: str) -> list[Any]:
    found = sorted(path for pattern in patterns for path in SAMPLES.glob(pattern))
    return [pytest.param(path, id=path.name) for path in found] or [pytest.param(SAMPLES, id="absent")]


def refusals(octets: bytes) -> tuple[str | None, str | None]:
    """What is said of a file in the formats ts32297 and ber; nothing of it was read."""
    readings = [read(octets, is_framed=is_framed) for is_framed in (True, False)]
    assert [reading.rows for reading in readings] == [[], []]
    return readings[0].fault, readings[1].fault


@needs_samples
@pytest.mark.parametrize("path", sample_files("3gpp_*/*.cdr"))
def test_files_of_other_writers_have_the_totals_their_programs_put_in(path: Path):
    expected = json.loads((SAMPLES / "expected_totals.json").read_text(encoding="utf-8"))[path.name]

    reading = read(path.read_bytes(), is_framed=True)
    totals: dict[str, dict[str, int]] = {}
    for row in reading.rows:
        total = totals.setdefault(row["servedIMSI"], {"records": 0, "uplink": 0, "downlink": 0})
        total["records"] += row["interval_index"] == 0
        total["uplink"] += row["uplinkOctets"]
        total["downlink"] += row["downlinkOctets"]

    assert totals == expected["per_subscriber"]
    assert (reading.fault, reading.warnings, set(reading.faults)) == (None, {}, {None})
    assert reading.tally.records_declared == reading.tally.records == expected["header"]["cdrs"]
    assert file_header(path.read_bytes()).length_octets == expected["header"]["header_length"]
    assert reading.tally.octets == expected["header"]["file_length"]


TAP, RAP, NRTRDE = "a TAP3 file (GSMA TD.57)", "a RAP file (GSMA TD.32)", "an NRTRDE file (GSMA TD.35)"
OTHER_NAMES = {
    "rap_mini.ber": RAP,
    "rap_ack.ber": "a RAP acknowledgement (GSMA TD.32)",
    "nrt_2_1.ber": NRTRDE,
    "deep_invalid.ber": NRTRDE,
    "tap_notification.ber": "a TAP3 notification (GSMA TD.57)",
    "two-root.ber": "a TAP3 or NRTRDE file",
}
NAMELESS = {"block_test0.ber", "length_overflow.ber", "skip_test.ber", "zero_test0.ber"}


@needs_samples
@pytest.mark.parametrize("path", sample_files("tap3_*/*.ber"))
def test_roaming_files_are_refused_by_name(path: Path):
    name = None if path.name in NAMELESS else OTHER_NAMES.get(path.name, TAP)
    said = f"this is {name}, not " if name else "this is not "

    assert refusals(path.read_bytes()) == (f"{said}a TS 32.297 file", f"{said}3GPP charging records")


@needs_samples
@pytest.mark.parametrize("path", sample_files("*/*.xml", "*/*.xsd", "*/*.csv", "*/*.txt", "*/*.attrs"))
def test_texts_and_xml_are_refused_as_such(path: Path):
    name = "XML" if path.suffix in (".xml", ".xsd") else "text"

    assert refusals(path.read_bytes()) == (f"this is {name}, not a TS 32.297 file", f"this is {name}, not 3GPP charging records")


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"a;TAP file begins with this letter\n", "this is text, not "),
        (b"bob,1\n", "this is text, not "),
        (b'<?xml version="1.0"?><r>\xc3\xa9</r>', "this is XML, not "),
        (b"PAR1" + bytes(60) + b"PAR1", "this is a Parquet file, not "),
        # The octets name the test, alike in every process: so without the time.
        (gzip.compress(pgw(), mtime=0), "this is gzip-compressed, but its name does not end in .gz, not "),
        (pa.compress(pgw(), "zstd", asbytes=True), "this is Zstandard-compressed, but its name does not end in .zst, not "),
        (b"\x30\x03\x02\x01\x05", "this is not "),
    ],
)
def test_what_is_no_charging_file_is_refused_with_what_it_is(octets: bytes, said: str):
    assert refusals(octets) == (f"{said}a TS 32.297 file", f"{said}3GPP charging records")


def test_an_empty_file_is_refused():
    assert refusals(b"") == ("the file is empty", "the file is empty")


def test_the_other_format_of_charging_records_is_named():
    assert read(pgw() * 3, is_framed=True).fault == (
        "this is charging records without a TS 32.297 header (format ber), not a TS 32.297 file"
    )
    assert read(file_of([pgw()])).fault == "this is a TS 32.297 file (format ts32297), not 3GPP charging records"


# Every type of record, against an independent decoder


counts = st.integers(0, 2**40)
small = st.integers(0, 200)
identifiers = st.integers(0, 2**32 - 1)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=20)
digit_strings = st.text("0123456789", min_size=5, max_size=15)
offsets = st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))
instants = st.integers(0, 80 * 365 * 86_400).map(lambda seconds: datetime(2001, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
times = st.builds(datetime.astimezone, instants, offsets)
stamps = times.map(stamp)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
plmns = st.sampled_from([plmn("001", "01"), plmn("262", "01"), plmn("310", "410")])


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


traffic_volumes = st.builds(
    traffic_volume,
    up=optional(counts),
    down=optional(counts),
    changeCondition=st.integers(0, 2),
    changeTime=stamps,
    rATType=optional(st.integers(1, 10)),
)
containers_of_service_data = st.builds(
    service_data,
    ratingGroup=identifiers,
    localSequenceNumber=optional(identifiers),
    timeOfFirstUsage=optional(stamps),
    timeOfLastUsage=optional(stamps),
    timeUsage=optional(small),
    serviceConditionChange=st.just(b"\x05\0\0\0\x40"),
    up=optional(counts),
    down=optional(counts),
    timeOfReport=stamps,
    serviceIdentifier=optional(identifiers),
    rATType=optional(st.integers(1, 10)),
)
secondary_reports = st.builds(
    secondary_report, up=counts, down=counts, rANStartTime=stamps, rANEndTime=stamps, secondaryRATType=st.just(0)
)


def lists(of: st.SearchStrategy[Element]) -> st.SearchStrategy[Any]:
    return optional(st.lists(of, min_size=1, max_size=3).map(tuple))


def gprs_records(record_type: str) -> st.SearchStrategy[Element]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "recordType": st.just({"sgsn": 18, "sgw": 84}.get(record_type, 85)),
        "servedIMSI": optional(digit_strings.map(tbcd)),
        "gatewayAddress": addresses.map(gsn_address),
        "chargingID": identifiers,
        "accessPointNameNI": optional(names),
        "listOfTrafficVolumes": lists(traffic_volumes),
        "recordOpeningTime": stamps,
        "duration": st.integers(0, 10**6),
        "causeForRecClosing": small,
        "recordSequenceNumber": optional(identifiers),
        "nodeID": optional(names),
        "localSequenceNumber": optional(identifiers),
        "servedMSISDN": optional(digit_strings.map(msisdn)),
        "chargingCharacteristics": st.just(b"\x08\0"),
        "servingNodePLMNIdentifier": optional(plmns),
        "rATType": optional(st.integers(1, 10)),
    }
    if record_type == "sgsn":
        fields["rNCUnsentDownlinkVolume"] = optional(counts)
    else:
        fields["servingNodeAddress"] = addresses.map(gsn_address)
        fields["servingNodeType"] = st.just((Element(10, b"\x01", UNIVERSAL),))
        fields["stopTime"] = optional(stamps)
        fields["secondaryReports"] = lists(secondary_reports)
    if record_type == "pgw":
        fields["listOfServiceData"] = lists(containers_of_service_data)
    return st.builds(record, st.just(record_type), **fields)


@cache
def pycrate() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pycrate_asn1dir import CDR  # type: ignore[import-untyped]
    return CDR.GPRSChargingDataTypes.GPRSRecord


def rows_by_pycrate(octets: bytes) -> list[dict[str, Any]]:
    """The rows of a record as TS 32.298 has them, from pycrate's values."""
    decoder = pycrate()
    decoder.from_ber(octets)
    alternative, found = decoder.get_val()
    gateway = found.get("p-GWAddress") or found.get("s-GWAddress") or found["ggsnAddressUsed"]
    while isinstance(gateway, tuple):
        gateway = gateway[1]
    opening = instant(found["recordOpeningTime"])
    of_record = {
        "recordType": {"pGWRecord": "pgw", "sGWRecord": "sgw", "sgsnPDPRecord": "sgsn"}[alternative],
        "servedIMSI": digits(found.get("servedIMSI", b"")),
        "servedMSISDN": digits(found.get("servedMSISDN", b"")[1:]),
        "accessPointNameNI": found.get("accessPointNameNI", ""),
        "nodeID": found.get("nodeID", ""),
        "gatewayAddress": gateway.hex(),
        "servingNodePLMNIdentifier": network(found.get("servingNodePLMNIdentifier")),
        "chargingID": found["chargingID"],
        "chargingSessionIdentifier": "",
        "recordSequenceNumber": found.get("recordSequenceNumber", 0),
        "localSequenceNumber": found.get("localSequenceNumber"),
        "recordOpeningTime": opening,
        "duration": found["duration"],
        "causeForRecClosing": found["causeForRecClosing"],
        "userRoamerInOut": None,
    }
    return [of_record | interval for interval in intervals_by_pycrate(found, opening)]


def intervals_by_pycrate(found: dict[str, Any], opening: datetime) -> list[dict[str, Any]]:
    def interval(
        opened: datetime, closed: datetime, up: int, down: int, rating_group: int | None, rat: int | None
    ) -> dict[str, Any]:
        return dict(zip((*INTERVAL, "ratingGroup", "rATType"), (opened, closed, up, down, rating_group, rat), strict=True))

    rat, made = found.get("rATType"), []
    for c in found.get("listOfServiceData", []):
        opened = instant(c["timeOfFirstUsage"]) if "timeOfFirstUsage" in c else opening
        up, down = c.get("datavolumeFBCUplink", 0), c.get("datavolumeFBCDownlink", 0)
        made.append(interval(opened, instant(c["timeOfReport"]), up, down, c["ratingGroup"], c.get("rATType", rat)))
    if made:
        return made
    before = opening
    for c in found.get("listOfTrafficVolumes", []):
        closed = instant(c["changeTime"])
        up, down = c.get("dataVolumeGPRSUplink", 0), c.get("dataVolumeGPRSDownlink", 0)
        made.append(interval(before, closed, up, down, None, c.get("rATType", rat)))
        before = closed
    return made or [interval(opening, opening + timedelta(seconds=found["duration"]), 0, 0, None, rat)]


def digits(octets: bytes) -> str:
    return "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in octets).rstrip("f")


def network(octets: bytes | None) -> str:
    if octets is None:
        return ""
    one, two, three = octets
    return f"{one & 15}{one >> 4}{two & 15}{three & 15}{three >> 4}" + ("" if two >> 4 == 15 else f"{two >> 4}")


def instant(octets: bytes) -> datetime:
    written = octets.hex()
    local = datetime.strptime("20" + written[:12], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    offset = timedelta(hours=int(written[14:16]), minutes=int(written[16:18]))
    return local + offset if octets[6:7] == b"-" else local - offset


def rows(octets: bytes, **settings: Any) -> list[dict[str, Any]]:
    """Rows of sound records by the names of their columns, without their place."""
    reading = read(octets, layout(**settings))
    assert set(reading.faults) == {None}
    return [{name: row[name] for name in CHARGING_COLUMNS} for row in reading.rows]


@pytest.mark.parametrize("record_type", ["pgw", "sgw", "sgsn"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_gprs_record_is_read_as_an_independent_decoder_reads_it(record_type: str, data: st.DataObject):
    made = data.draw(gprs_records(record_type))
    definite, indefinite = encoded(made), encoded(made, is_indefinite=True)

    expected = rows_by_pycrate(definite)

    assert rows(definite) == rows(indefinite) == expected


@pytest.mark.parametrize("record_type", ["ggsn", "egsn"])
def test_ggsn_and_eg_cdrs_are_read_as_the_pgw_cdrs_that_succeeded_them(record_type: str):
    made = pgw_tree()

    older = rows(encoded(Element(RECORDS[record_type][0], made.content)))

    assert older == [{**row, "recordType": record_type} for row in rows(encoded(made))]


@given(made=st.lists(gprs_records("pgw") | gprs_records("sgsn"), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_records_that_follow_each_other_are_read_as_each_alone(made: list[Element]):
    octets = [encoded(tree) for tree in made]

    assert rows(b"".join(octets)) == [row for alone in octets for row in rows(alone)]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_chf_record_is_read_as_it_was_made(data: st.DataObject):
    usages = data.draw(
        st.lists(st.tuples(identifiers, st.lists(st.tuples(counts, counts, times, times), max_size=3)), max_size=3)
    )
    opening, node, session = data.draw(times), data.draw(names), data.draw(names)
    sequence, rat, is_group_last = (
        data.draw(optional(identifiers)),
        data.draw(optional(st.integers(51, 66))),
        data.draw(st.booleans()),
    )

    made = record(
        "chf",
        recordType=200,
        nodeID=node,
        subscriberIdentifier=subscriber(1, "imsi-001010000000001"),
        listOfMultipleUnitUsage=tuple(
            unit_usage(
                group,
                *(
                    used_units(triggerTimeStamp=stamp(closed), total=up + down, up=up, down=down, timeOfFirstUsage=stamp(opened))
                    for up, down, opened, closed in used
                ),
                is_group_last=is_group_last,
            )
            for group, used in usages
        ),
        recordOpeningTime=stamp(opening),
        duration=60,
        recordSequenceNumber=sequence,
        pDUSessionChargingInformation=pdu_session("33639980001", rATType=rat, accessPointNameNI="internet"),
        chargingSessionIdentifier=session,
    )
    intervals = [(o, c, up, down, group) for group, used in usages for up, down, o, c in used]

    definite, indefinite = (read(encoded(made, is_indefinite)) for is_indefinite in (False, True))

    assert definite.rows == [{**row, "offset": 0} for row in indefinite.rows]
    assert definite.values(*INTERVAL, "ratingGroup") == (intervals or [(opening, opening + timedelta(seconds=60), 0, 0, None)])
    of_record = (
        "recordType",
        "servedIMSI",
        "servedMSISDN",
        "nodeID",
        "chargingSessionIdentifier",
        "recordSequenceNumber",
        "rATType",
    )
    assert set(definite.values(*of_record)) == {("chf", "001010000000001", "33639980001", node, session, sequence or 0, rat)}


# What counts


TRAFFIC = (traffic_volume(up=10, down=20, changeTime=stamp(SEVEN)), traffic_volume(up=30, down=40, changeTime=stamp(EIGHT)))
SERVICES = (
    service_data(ratingGroup=1, up=1, down=2, timeOfReport=stamp(SEVEN)),
    service_data(ratingGroup=1, serviceIdentifier=5, up=3, down=4, timeOfReport=stamp(SEVEN)),
)


def test_service_data_counts_and_not_the_traffic_volumes_of_the_same_octets():
    both = pgw(listOfTrafficVolumes=TRAFFIC, listOfServiceData=SERVICES)

    assert read(both).values(*OCTETS) == [(1, 2), (3, 4)]


def test_traffic_volumes_count_where_there_is_no_service_data():
    assert read(pgw(listOfTrafficVolumes=TRAFFIC, listOfServiceData=None)).values(*OCTETS) == [(10, 20), (30, 40)]


def test_an_operator_may_count_traffic_volumes_only():
    only = layout(volumes="traffic_volumes")

    assert read(pgw(listOfTrafficVolumes=TRAFFIC, listOfServiceData=SERVICES), only).values(*OCTETS) == [(10, 20), (30, 40)]
    assert read(pgw(listOfServiceData=SERVICES), only).values(*OCTETS) == [(0, 0)]


def test_service_data_of_one_record_leaves_the_traffic_volumes_of_another():
    two = pgw(listOfTrafficVolumes=TRAFFIC, listOfServiceData=SERVICES) + pgw(
        listOfTrafficVolumes=TRAFFIC, listOfServiceData=None
    )

    assert read(two).values("ordinal", *OCTETS) == [(1, 1, 2), (1, 3, 4), (2, 10, 20), (2, 30, 40)]


@pytest.mark.parametrize(
    ("level", "counted", "warnings"),
    [
        ("both", [(1, 2), (3, 4)], {}),
        ("rating_group", [(1, 2)], {"containers_of_a_service_left_out": 1}),
        ("service", [(3, 4)], {"containers_of_a_rating_group_left_out": 1}),
    ],
)
def test_one_reporting_level_counts_and_what_is_left_out_is_seen(level: str, counted: list[Any], warnings: dict[str, int]):
    reading = read(pgw(listOfServiceData=SERVICES), layout(reporting_level=level))

    assert reading.values(*OCTETS) == counted
    assert reading.warnings == warnings


def test_traffic_volumes_and_used_units_have_no_reporting_level():
    used = chf(listOfMultipleUnitUsage=(unit_usage(1, used_units(up=1, down=2)),))

    for level in ("both", "rating_group", "service"):
        reading = read(pgw(listOfTrafficVolumes=TRAFFIC, listOfServiceData=None) + used, layout(reporting_level=level))
        assert reading.values(*OCTETS) == [(10, 20), (30, 40), (1, 2)]


def test_reports_of_secondary_access_are_part_of_the_octets_and_never_added():
    report = secondary_report(up=500, down=600, rANStartTime=stamp(SIX), rANEndTime=stamp(SEVEN), secondaryRATType=0)

    assert read(pgw(secondaryReports=(report,))).values(*OCTETS) == [(1, 2)]


def test_usage_by_qos_flow_of_roaming_is_never_added():
    containers = (Element(4, (used_units(total=900, up=400, down=500),)),)

    used = chf(listOfMultipleUnitUsage=(unit_usage(1, used_units(up=1, down=2)),), roamingQBCInformation=containers)

    assert read(used).values(*OCTETS) == [(1, 2)]


def test_octets_that_were_never_sent_downlink_are_not_added():
    unsent = record(
        "sgsn", recordOpeningTime=stamp(SIX), duration=60, listOfTrafficVolumes=TRAFFIC[:1], rNCUnsentDownlinkVolume=7000
    )

    assert read(encoded(unsent)).values(*OCTETS) == [(10, 20)]


def test_elements_that_are_not_known_are_stepped_over():
    vendor = (Element(99, b"\1"), Element(500, (primitive(3, 12345),)), Element(70_000, b"", UNIVERSAL))
    tree = pgw_tree()
    assert isinstance(tree.content, tuple)

    assert rows(encoded(Element(79, (*vendor, *tree.content, *vendor)))) == rows(encoded(tree))


# Totals of the charging function


def used(**values: Any) -> bytes:
    return chf(listOfMultipleUnitUsage=(unit_usage(1, used_units(**values)),))


@pytest.mark.parametrize(
    ("volumes", "up", "down"),
    [
        ({"total": 3, "up": 1, "down": 2}, 1, 2),
        ({"up": 1, "down": 2}, 1, 2),
        ({"total": 2, "down": 2}, 0, 2),
        ({"total": 0}, 0, 0),
        ({}, 0, 0),
    ],
)
def test_the_directions_count_and_a_total_that_agrees_adds_nothing(volumes: dict[str, int], up: int, down: int):
    assert one(used(**volumes), *OCTETS) == (up, down)


@pytest.mark.parametrize("volumes", [{"total": 4, "up": 1, "down": 2}, {"total": 100, "up": 30}, {"total": 1, "down": 2}])
def test_a_total_that_is_not_the_sum_of_its_directions_is_a_fault(volumes: dict[str, int]):
    assert fault(used(**volumes)) == "volume_inconsistent"


def test_a_total_without_directions_is_what_the_source_says():
    assert fault(used(total=9), total_without_directions="reject") == "volume_inconsistent"
    assert one(used(total=9), *OCTETS, total_without_directions="down") == (0, 9)


def test_an_inconsistent_container_is_the_fault_of_its_whole_record_only():
    wrong = chf(listOfMultipleUnitUsage=(unit_usage(1, used_units(up=1), used_units(total=9, up=1, down=2)),))

    reading = read(pgw() + wrong + pgw())

    assert [row["fault"] for row in reading.rows] == [None, "volume_inconsistent", "volume_inconsistent", None]
    assert reading.octets == (0, 2 * len(pgw()) + len(wrong), 0, 0)


# When


def test_traffic_volumes_begin_where_the_one_before_ended():
    later = pgw(listOfTrafficVolumes=TRAFFIC, listOfServiceData=None, duration=2 * 3600)

    assert read(later * 2).values(*INTERVAL) == [(SIX, SEVEN, 10, 20), (SEVEN, EIGHT, 30, 40)] * 2


def test_service_data_is_used_from_its_first_usage_until_its_report():
    tell = {"timeOfFirstUsage": stamp(SIX.replace(minute=5)), "timeOfLastUsage": stamp(SIX.replace(minute=55))}
    begin, last, report = SIX.replace(minute=5), SIX.replace(minute=55), stamp(SEVEN)

    def times_of(**values: Any) -> Any:
        return one(pgw(listOfServiceData=(service_data(ratingGroup=1, up=1, **values),)), "intervalOpened", "intervalClosed")

    assert times_of(**tell, timeOfReport=report) == (begin, SEVEN)
    assert times_of(**tell) == (begin, last)
    assert times_of(timeOfReport=report) == (SIX, SEVEN)
    assert times_of() == (SIX, SEVEN)


def test_used_units_are_used_from_their_first_usage_until_their_trigger():
    times_of = ("intervalOpened", "intervalClosed")

    assert one(used(timeOfFirstUsage=stamp(SEVEN), triggerTimeStamp=stamp(EIGHT)), *times_of) == (SEVEN, EIGHT)
    assert one(used(triggerTimeStamp=stamp(EIGHT)), *times_of) == (SIX, EIGHT)
    assert one(used(timeOfLastUsage=stamp(EIGHT)), *times_of) == (SIX, EIGHT)


def test_a_record_without_containers_is_one_empty_interval_of_its_time():
    reading = read(pgw(listOfServiceData=None) * 2)

    assert reading.values(*INTERVAL, "ratingGroup", "interval_index") == [(SIX, SEVEN, 0, 0, None, 0)] * 2


def test_a_record_without_duration_ends_with_its_stop_time():
    without = {"listOfServiceData": None, "duration": None}

    assert one(pgw(**without, stopTime=stamp(EIGHT)), "intervalClosed") == EIGHT
    assert one(pgw(**without), "intervalClosed") == SIX


def test_a_record_without_opening_time_has_no_interval_and_does_not_end_in_1970():
    assert one(pgw(listOfServiceData=None, recordOpeningTime=None), "intervalOpened", "intervalClosed") == (None, None)


def test_a_duration_of_centuries_is_a_fault():
    assert fault(pgw(duration=2**32 - 1)) is None
    assert fault(pgw(duration=2**32)) == fault(pgw(duration=2**62)) == "integer_out_of_range"


@pytest.mark.parametrize("minutes", [0, 60, -300, 330, 345, -570, 14 * 60])
def test_local_time_and_offset_become_utc(minutes: int):
    local = SIX.astimezone(timezone(timedelta(minutes=minutes)))

    assert one(pgw(recordOpeningTime=stamp(local)), "recordOpeningTime") == SIX


@pytest.mark.parametrize(
    "written",
    [
        "260230180000 2b 0000",  # 30 February
        "260229180000 2b 0000",  # 2026 is no leap year
        "260431180000 2b 0000",
        "261331180000 2b 0000",
        "260001180000 2b 0000",
        "261100180000 2b 0000",
        "261031240000 2b 0000",
        "261031186000 2b 0000",
        "261031180060 2b 0000",
        "26103118000a 2b 0000",
        "261031180000 20 0000",  # neither + nor -
        "261031180000 2b 1500",
        "261031180000 2b 0017",  # as free5gc writes half-hour zones
        "261031180000 2b",
        "",
    ],
)
def test_a_time_that_cannot_be_is_a_fault(written: str):
    assert fault(pgw(recordOpeningTime=bytes.fromhex(written))) == "time_malformed"


def test_29_february_of_a_leap_year_is_a_day():
    leap = datetime(2028, 2, 29, 12, tzinfo=UTC)

    assert one(pgw(recordOpeningTime=stamp(leap)), "recordOpeningTime") == leap


def test_a_time_stamp_without_offset_needs_the_zone_of_the_source():
    short = pgw(
        recordOpeningTime=short_stamp(datetime(2026, 7, 1, 12, tzinfo=UTC)),
        listOfServiceData=(service_data(ratingGroup=1, up=1, timeOfReport=short_stamp(datetime(2026, 12, 1, 12, tzinfo=UTC))),),
    )

    assert fault(short) == "time_without_offset"
    assert one(short, "intervalOpened", "intervalClosed", short_timestamp_zone="Europe/Paris") == (
        datetime(2026, 7, 1, 10, tzinfo=UTC),
        datetime(2026, 12, 1, 11, tzinfo=UTC),
    )
    assert one(short, "recordOpeningTime", short_timestamp_zone="Asia/Kolkata") == datetime(2026, 7, 1, 6, 30, tzinfo=UTC)


def test_the_zone_of_the_source_leaves_time_stamps_with_an_offset_alone():
    assert one(pgw(), "recordOpeningTime", short_timestamp_zone="Europe/Paris") == SIX
    short = pgw(recordOpeningTime=short_stamp(SIX), listOfServiceData=None)
    assert read(pgw() + short, layout(short_timestamp_zone="Europe/Paris")).values("recordOpeningTime") == [
        SIX,
        SIX.replace(hour=17),
    ]


# Who and where


def test_a_missing_sequence_number_is_0():
    assert one(pgw(), "recordSequenceNumber") == 0
    assert one(pgw(recordSequenceNumber=3), "recordSequenceNumber") == 3


@pytest.mark.parametrize("imsi", ["001010000000001", "26201999999999", "123456"])
def test_the_imsi_is_read_with_its_filler(imsi: str):
    assert one(pgw(servedIMSI=tbcd(imsi)), "servedIMSI") == imsi


def test_what_is_no_digit_is_seen_in_an_imsi():
    assert one(pgw(servedIMSI=bytes.fromhex("00a1f1")), "servedIMSI") == "001?1"
    assert one(pgw(servedIMSI=bytes.fromhex("00f1")), "servedIMSI") == "001"
    assert one(pgw(servedIMSI=bytes.fromhex("f011")), "servedIMSI") == "0?11"
    assert one(pgw(servedIMSI=b""), "servedIMSI") == one(pgw(servedIMSI=None), "servedIMSI") == ""


def test_the_msisdn_is_read_behind_its_type_of_number():
    assert one(pgw(servedMSISDN=msisdn("33639980001")), "servedMSISDN") == "33639980001"
    assert one(pgw(servedMSISDN=b"\x91"), "servedMSISDN") == one(pgw(), "servedMSISDN") == ""


@pytest.mark.parametrize(("mcc", "mnc"), [("001", "01"), ("208", "10"), ("310", "410"), ("310", "004")])
def test_networks_have_codes_of_two_or_three_digits(mcc: str, mnc: str):
    assert one(pgw(servingNodePLMNIdentifier=plmn(mcc, mnc)), "servingNodePLMNIdentifier") == mcc + mnc


def test_a_network_code_that_is_none_is_not_read_as_one():
    assert one(pgw(servingNodePLMNIdentifier=bytes.fromhex("ffffff")), "servingNodePLMNIdentifier") == "?"
    assert one(pgw(servingNodePLMNIdentifier=b"\0\1"), "servingNodePLMNIdentifier") == ""


@pytest.mark.parametrize(
    ("kind", "written", "imsi", "number"),
    [
        (1, "imsi-001010000000001", "001010000000001", ""),
        (1, "001010000000001", "001010000000001", ""),
        (0, "msisdn-33639980001", "", "33639980001"),
        (0, "33639980001", "", "33639980001"),
        (3, "imsi-001010000000001", "", ""),
    ],
)
def test_the_subscriber_of_a_chf_record_has_a_prefix_or_none(kind: int, written: str, imsi: str, number: str):
    assert one(chf(subscriberIdentifier=subscriber(kind, written)), "servedIMSI", "servedMSISDN") == (imsi, number)


def test_the_number_of_a_chf_record_with_an_imsi_is_that_of_its_session():
    session = pdu_session("33639980001", userRoamerInOut=1, rATType=51, servingNodePLMNIdentifier=plmn("001", "01"))

    named = ("servedIMSI", "servedMSISDN", "userRoamerInOut", "rATType", "servingNodePLMNIdentifier")
    assert one(chf(pDUSessionChargingInformation=session), *named) == ("001010000000001", "33639980001", 1, 51, "00101")


def test_texts_that_are_no_utf_8_are_read_with_a_mark_where_they_are_not():
    assert read(pgw(accessPointNameNI=b"caf\xe9") + pgw(accessPointNameNI="café")).values("accessPointNameNI") == ["caf�", "café"]


# Numbers


def volume(content: bytes, **settings: Any) -> bytes:
    return pgw(listOfServiceData=(service_data(ratingGroup=1, up=content, timeOfReport=stamp(SEVEN)),))


@pytest.mark.parametrize(
    ("content", "octets"),
    [("00", 0), ("7f", 127), ("0080", 128), ("00fffffffe", 2**32 - 2), ("0000000001", 1), ("000000000000000000ff", 255)],
)
def test_volumes_are_read_whatever_zeros_are_in_front(content: str, octets: int):
    reading = read(volume(bytes.fromhex(content)))

    assert reading.values("uplinkOctets") == [octets]
    assert reading.warnings == {}


def test_a_counter_of_4_octets_without_its_leading_zero_is_read_unsigned_and_seen():
    reading = read(volume(bytes.fromhex("fffffffe")))

    assert reading.values("uplinkOctets") == [2**32 - 2]
    assert reading.warnings == {"volume_sign_restored": 1}


def test_a_counter_of_8_octets_is_read_as_no_less_than_the_greatest_number():
    # 2^63 octets and more, which no source accepts (volume_out_of_range): no number of 64 bits with a sign holds them.
    reading = read(volume(bytes.fromhex("fffffffffffffffe")))

    assert reading.values("uplinkOctets") == [2**63 - 1]
    assert reading.warnings == {"volume_sign_restored": 1}


@pytest.mark.parametrize("content", ["fe", "fffe", "fffffe", "fffffffffe"])
def test_a_shorter_volume_with_a_sign_is_a_fault(content: str):
    reading = read(volume(bytes.fromhex(content)))

    assert reading.faults == ["volume_sign_ambiguous"]
    assert reading.warnings == {}


@pytest.mark.parametrize("content", ["", "010000000000000000", "ffffffffffffffffff"])
def test_a_number_that_is_none_or_too_long_is_a_fault(content: str):
    assert fault(volume(bytes.fromhex(content))) == "integer_out_of_range"
    assert fault(pgw(chargingID=bytes.fromhex(content))) == "integer_out_of_range"


def test_an_element_that_must_have_elements_inside_or_none_is_a_fault():
    constructed = tag(14, is_constructed=True)
    inside = encoded(primitive(14, 60))
    for wrong in (
        constructed + b"\x02\x80\x00",
        constructed + b"\x80\x80\x00\x00\x00",  # of indefinite length
        encoded(Element(34, b"\x30\x00")),
        encoded(Element(34, b"")),
    ):
        content = encoded(primitive(13, stamp(SIX))) + wrong + inside
        octets = tag(79, is_constructed=True) + length(len(content)) + content
        assert read(file_of([octets]), is_framed=True).faults == ["ber_malformed"]


def test_lengths_may_be_written_longer_than_needed():
    content = b"".join(encoded(element) for element in pgw_tree().content)  # type: ignore[arg-type]

    for octets in (2, 3, 4, 8):
        assert rows(tag(79, is_constructed=True) + length(len(content), octets) + content) == rows(pgw())


# Files and blocks


THREE = [pgw(chargingID=1), pgw(chargingID=2, is_indefinite=True), pgw(chargingID=3)]
HEADERS = {
    "open5gs": (FileForm(), 52),
    "free5gc": (FREE5GC, 52),
    "sigscale": (FileForm(private_extension=b""), 54),
    "private extension": (FileForm(private_extension=b"\0\x01vendor"), 62),
    "private extension, no release extension": (FileForm(release=5, private_extension=b"vendor"), 58),
    "no extension at all": (FileForm(release=0), 50),
    "routeing filter": (FileForm(routeing_filter=b"\x01" * 9), 61),
    "all": (FileForm(routeing_filter=b"filter", private_extension=b"x" * 300), 360),
    "length not known": (FileForm(knows_length=False), 52),
}


@pytest.mark.parametrize("name", HEADERS)
def test_records_begin_where_the_header_says_it_ends(name: str):
    form, header_octets = HEADERS[name]
    octets = file_of(THREE, form)

    reading = read(octets, is_framed=True)

    each = 5 if form.release == 7 else 4
    assert reading.values("chargingID") == [1, 2, 3]
    assert reading.octets == (header_octets + 3 * each, sum(map(len, THREE)), 0, 0)
    assert reading.rows[0]["offset"] == header_octets + each
    assert (reading.tally.records_declared, reading.tally.records_lost, reading.warnings) == (3, 0, {})


@pytest.mark.parametrize("header_octets", [24, 49])
def test_of_a_header_of_a_vendors_own_only_the_lengths_are_read(header_octets: int):
    reading = read(vendor_file_of(THREE, header_octets), is_framed=True)

    assert reading.values("chargingID") == [1, 2, 3]
    assert (reading.tally.records_declared, reading.tally.records_lost) == (None, None)


def test_headers_of_four_and_five_octets_may_be_mixed():
    octets = file_of(THREE) + cdr_header(THREE[0], FREE5GC) + THREE[0]

    assert read(octets, is_framed=True).values("chargingID") == [1, 2, 3, 1]


@pytest.mark.parametrize(("indicator", "lost"), [(0, 0), (1, 1), (127, 127), (128, 1), (129, 1), (254, 126), (255, 127)])
def test_the_header_says_how_many_records_were_lost(indicator: int, lost: int):
    octets = file_of(THREE, FileForm(lost_indicator=indicator))

    assert read(octets, is_framed=True).tally.records_lost == file_header(octets).lost_cdrs == lost


@pytest.mark.parametrize("declared", [0, 2, 4, 2**32 - 1])
def test_a_count_that_differs_from_the_headers_is_seen(declared: int):
    reading = read(file_of(THREE, FileForm(cdrs=declared)), is_framed=True)

    assert reading.values("chargingID") == [1, 2, 3]
    assert (reading.tally.records_declared, reading.warnings) == (declared, {"record_count_differs": 1})


def test_a_file_without_records_is_read_as_such():
    reading = read(file_of([]), is_framed=True)

    assert (reading.rows, reading.fault, reading.octets, reading.warnings) == ([], None, (52, 0, 0, 0), {})


@pytest.mark.parametrize("filler", [0x00, 0xFF])
@pytest.mark.parametrize("is_framed", [True, False])
def test_padding_of_blocks_is_skipped_and_counted(is_framed: bool, filler: int):
    many = [pgw(chargingID=n) for n in range(40)]
    units = [cdr_header(octets) + octets for octets in many] if is_framed else many
    header = file_of([], FileForm(cdrs=40, knows_length=False)) if is_framed else b""

    octets = in_blocks([header, *units], 2048, filler)
    reading = read(octets, is_framed=is_framed)

    assert len(octets) % 2048 == 0
    assert reading.values("chargingID") == list(range(40))
    assert set(reading.faults) == {None}
    assert reading.tally.octets_padding == len(octets) - len(header) - sum(map(len, units))
    assert reading.warnings == {}


@pytest.mark.parametrize("size", [200, 255, 256, 257, 1000])
@pytest.mark.parametrize("filler", [0x00, 0xFF])
def test_padding_is_told_from_the_length_of_the_next_record(size: int, filler: int):
    # The length of a record of less than 256 octets begins with 0x00, as padding does.
    plain = pgw(accessPointNameNI="")
    padded = pgw(accessPointNameNI="x" * (size - len(plain)))
    octets = file_of([padded, padded], after_each=[bytes([filler]) * 3, bytes([filler])])

    reading = read(octets, is_framed=True)

    assert reading.faults == [None, None]
    assert reading.tally.octets_padding == 4


def source_of(folder: Path, name: str, **changes: str) -> UsageSource:
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    source = read_source(folder / f"{name}.toml")
    assert isinstance(source, UsageSource)
    return source


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_files_are_decompressed_by_their_suffix(tmp_path: Path, suffix: str):
    codec = {".gz": "gzip", ".zst": "zstd"}.get(suffix)
    octets = file_of(THREE)
    path = tmp_path / f"x_PGW_1.cdr{suffix}"
    path.write_bytes(pa.compress(octets, codec, asbytes=True) if codec else octets)
    source, tally = source_of(tmp_path, "pgw_ts32297"), Tally()

    blocks = list(read_records(str(path), path.stat().st_size, source, tally))

    assert [row["chargingID"] for block in blocks for row in block.records.to_pylist()] == [1, 2, 3]
    assert set(blocks[0].records.schema.names) == set(source.whitelist)
    assert tally.octets == len(octets)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_compressed_file_that_is_cut_off_is_refused(codec: str):
    # Octets that do not compress, so that the stream's end lies behind those of the first record.
    compressed = pa.compress(file_of([pgw(accessPointNameNI=bytes(range(32, 127)) * 3)] * 3), codec, asbytes=True)
    stream = pa.CompressedInputStream(pa.BufferReader(compressed[: len(compressed) // 2]), codec)

    with pytest.raises(ReadFault, match="the compressed stream is damaged or truncated"):
        list(read_charging(stream, EVERY, True, CHARGING_COLUMNS, Tally()))


# The window


GARBAGE = st.binary(min_size=1, max_size=300) | st.sampled_from(
    [b"\0" * 20, b"\xff" * 20, b"\xb4\x80" * 9, b"\0\x90\xe0\x27\x08\xbf\x4f"]
)


@given(
    made=st.lists(gprs_records("pgw") | gprs_records("sgw"), min_size=1, max_size=5),
    between=st.lists(st.just(b"") | GARBAGE, min_size=5, max_size=5),
    is_framed=st.booleans(),
    is_indefinite=st.booleans(),
    window_octets=st.integers(200, 3000),
)
@example(made=[pgw_tree()] * 4, between=[b"\x01" * 250] * 5, is_framed=True, is_indefinite=False, window_octets=200)
@example(made=[pgw_tree()] * 4, between=[b"\xb4\x80" * 125] * 5, is_framed=False, is_indefinite=True, window_octets=201)
@settings(max_examples=150, deadline=None)
def test_rows_are_the_same_whatever_is_read_at_a_time(
    made: list[Element], between: list[bytes], is_framed: bool, is_indefinite: bool, window_octets: int
):
    records = [encoded(tree, is_indefinite) for tree in made]
    after = between[: len(records)]
    pairs = zip(records, after, strict=True)
    octets = file_of(records, OPEN5GS, after) if is_framed else b"".join(one + gap for one, gap in pairs)

    whole, parts = (read(octets, is_framed=is_framed, window_octets=window) for window in (1 << 20, window_octets))

    assert parts.rows == whole.rows
    assert parts.tally == whole.tally


@given(
    between=st.lists(st.just(b"") | GARBAGE, min_size=9, max_size=9),
    is_framed=st.booleans(),
    part_octets=st.integers(200, 1500),
    window_octets=st.integers(200, 3000),
)
# Ninety-five octets that seem to follow go beyond the end of the part.
@example(between=[b"", b"\0\x5f\xe0 \0\xb4", *[b""] * 7], is_framed=True, part_octets=200, window_octets=200)
@settings(max_examples=60, deadline=None)
def test_a_file_in_parts_has_the_rows_of_the_whole(between: list[bytes], is_framed: bool, part_octets: int, window_octets: int):
    records = [pgw(chargingID=n, localSequenceNumber=n) for n in range(9)]
    pairs = zip(records, between, strict=True)
    octets = file_of(records, OPEN5GS, between) if is_framed else b"".join(one + gap for one, gap in pairs)
    whole = read(octets, is_framed=is_framed)

    divided = parts(pa.BufferReader(octets), is_framed, part_octets)
    readings = [read(octets, is_framed=is_framed, window_octets=window_octets, part=part) for part in divided]

    assert [row for reading in readings for row in reading.rows] == whole.rows
    assert tuple(map(sum, zip(*(reading.octets for reading in readings), strict=True))) == whole.octets
    assert sum(reading.tally.octets for reading in readings) == len(octets)


@pytest.mark.parametrize("octets", [131_072, 131_073, 200_000])
def test_the_longest_record_is_the_same_whatever_is_read_at_a_time(octets: int):
    filled = encoded(primitive(99, bytes(octets - 12)))
    long = tag(79, is_constructed=True) + length(len(filled)) + filled
    assert len(long) == octets

    readings = [read(pgw() + long + pgw(), window_octets=window) for window in (1 << 20, 5000)]

    assert readings[0].rows == readings[1].rows
    assert readings[0].octets == readings[1].octets
    assert (readings[0].faults[1] is None) == (octets <= 131_072)


def test_blocks_hold_as_many_records_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jobs.readers.charging.BLOCK_RECORDS", 4)
    many = [pgw(chargingID=n) for n in range(11)]

    reading = read(file_of(many, after_each=[b"garbage"] * 11), is_framed=True)

    assert reading.values("chargingID") == list(range(11))
    assert reading.tally.records == 2 * 11


def test_containers_that_do_not_fit_in_one_block_go_to_the_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jobs.readers.charging_walk.LONGEST_RECORD_OCTETS", 7)
    many = b"".join(pgw(chargingID=n, listOfServiceData=SERVICES * 3) for n in range(5))

    assert read(many).values("chargingID", *OCTETS) == [(n, *found) for n in range(5) for found in [(1, 2), (3, 4)] * 3]


# Completeness


def test_sequence_numbers_are_counted_by_node_and_day():
    first, second = SIX, SIX + timedelta(days=1)
    octets = b"".join(
        pgw(nodeID=node, localSequenceNumber=number, recordOpeningTime=stamp(opening))
        for node, number, opening in [
            ("gw1", 12, first), ("gw2", 7, first), ("gw1", 10, first), ("gw1", 13, second), ("gw1", 11, first), (None, 5, first)
        ]
    )  # fmt: skip

    tally = read(octets + pgw()).tally

    assert tally.node_days == {
        ("gw1", "2026-10-31"): NodeDay(3, 10, 12),
        ("gw1", "2026-11-01"): NodeDay(1, 13, 13),
        ("gw2", "2026-10-31"): NodeDay(1, 7, 7),
        ("", "2026-10-31"): NodeDay(1, 5, 5),
    }
    assert tally.as_json()["node_days"][1] == ["gw1", "2026-10-31", 3, 10, 12]


def test_a_malformed_record_leaves_no_sequence_number():
    malformed = pgw(localSequenceNumber=99)[:-2] + b"\x05\x02"
    octets = file_of([pgw(localSequenceNumber=1), malformed, pgw(localSequenceNumber=3)])

    reading = read(octets, is_framed=True)

    assert reading.faults == [None, "ber_malformed", None]
    assert reading.tally.node_days == {("gw1", "2026-10-31"): NodeDay(2, 1, 3)}


def test_sequence_numbers_are_counted_on_from_window_to_window():
    octets = b"".join(pgw(localSequenceNumber=number) for number in range(50))

    assert read(octets, window_octets=300).tally.node_days == {("gw1", "2026-10-31"): NodeDay(50, 0, 49)}


# The settings


def refusal(folder: Path, name: str, **changes: str) -> str:
    with pytest.raises(SourceError) as raised:
        source_of(folder, name, **changes)
    return str(raised.value)


def test_records_that_measure_the_same_octets_do_not_count_together(tmp_path: Path):
    said = refusal(tmp_path, "pgw_ts32297", **{'record_types = ["pgw"]': 'record_types = ["sgw", "pgw"]'})

    assert "records of the serving node and of the gateway measure the same octets" in said


def test_records_of_the_serving_nodes_may_count_alone(tmp_path: Path):
    source = source_of(tmp_path, "pgw_ts32297", **{'record_types = ["pgw"]': 'record_types = ["sgw", "sgsn"]'})

    assert source.scope_rules[0].unless_starts_with == ("sgw", "sgsn")


def test_chf_records_need_to_know_what_a_total_without_directions_is(tmp_path: Path):
    said = refusal(tmp_path, "chf_ts32297", **{'total_without_directions = "reject"\n': ""})

    assert "charging.total_without_directions is needed for chf records" in said


def test_a_column_that_charging_records_lack_is_refused(tmp_path: Path):
    said = refusal(tmp_path, "pgw_ts32297", **{'up = "uplinkOctets"': 'up = "uplinkOctet"'})

    assert "not a column of charging records: uplinkOctet" in said


def test_the_table_charging_goes_with_its_formats(tmp_path: Path):
    assert "go together with the table [charging]" in refusal(
        tmp_path, "pgw_ts32297", **{'format = "ts32297"': 'format = "parquet"'}
    )
    assert "charging.record_types" in refusal(tmp_path, "pgw_ts32297", **{'record_types = ["pgw"]': "record_types = []"})
    assert "charging.record_types" in refusal(tmp_path, "pgw_ts32297", **{'record_types = ["pgw"]': 'record_types = ["mms"]'})
