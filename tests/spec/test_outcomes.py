"""What becomes of a record: an interval in its month, a rejection with its reason, or out of scope by policy."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.outcomes import (
    LARGEST_VOLUME_OCTETS,
    Counts,
    Policy,
    subscription_outcomes,
    usage_outcomes,
)
from jobs.pseudonyms import FROM_THE_BEGINNING, Key, Keys
from jobs.readers.block import Tally
from jobs.readers.delimited import read_delimited
from schemas.source import SubscriptionSource, UsageSource
from schemas.tables import ACCEPTED, REJECTED, SUBSCRIPTIONS
from tests.conftest import keys_of

PARIS = ZoneInfo("Europe/Paris")
KEY, SERVING = Key("identifier", bytes(range(32))), Key("serving", bytes(range(1, 33)))
NEXT_KEY, NEXT_SERVING = Key("identifier", bytes(range(2, 34))), Key("serving", bytes(range(3, 35)))
IDENTIFIER_KEYS, SERVING_KEYS = keys_of((FROM_THE_BEGINNING, KEY)), keys_of((FROM_THE_BEGINNING, SERVING))
OCTOBER, NOVEMBER, FEBRUARY = date(2026, 10, 1), date(2026, 11, 1), date(2027, 2, 1)
ROTATED_KEYS = keys_of((FROM_THE_BEGINNING, KEY), (NOVEMBER, NEXT_KEY))

# id | imsi | msisdn | start | end | up | down | rat | type | apn | note
DECLARED: dict[str, Any] = {
    "name": "gateway",
    "description": "made up",
    "kind": "usage",
    "network": "mobile",
    "format": "delimited",
    "volume_counted": "up_and_down",
    "key": ["id"],
    "files": {"pattern": "*", "on_changed_file": "refuse"},
    "delimited": {"delimiter": "|", "header": True},
    "identifiers": {"country_code": "33"},
    "identifier": [{"type": "imsi", "column": "imsi"}, {"type": "msisdn", "column": "msisdn"}],
    "time": {"format": "iso8601", "start": "start", "end": "end"},
    "volume": {"up": "up", "down": "down", "octets_per_unit": 1},
    "access_technology": {"column": "rat", "values": {"6": "4g", "51": "5g"}},
    "roaming": {"column": "type", "values": {"GP": "home", "RGP": "roaming"}},
    "estimated": {"column": "note", "values": {"": "false", "E": "true"}},
    "out_of_scope": [
        {"reason": "inbound_roamer", "column": "imsi", "unless_starts_with": ["00101"]},
        {"reason": "ims_apn", "column": "apn", "equals": ["ims"]},
        {"reason": "machine", "column": "apn", "starts_with": ["m2m.", "iot."]},
    ],
}
SOUND = {
    "id": "r1",
    "imsi": "001010123456789",
    "msisdn": "33612345678",
    "start": "2026-10-02T10:00:00+02:00",
    "end": "2026-10-02T11:00:00+02:00",
    "up": "100",
    "down": "2000",
    "rat": "6",
    "type": "GP",
    "apn": "internet",
    "note": "",
}


def source(**changes: Any) -> UsageSource:
    return UsageSource.model_validate(DECLARED | changes)


SOURCE = source()


class Decided:
    """What came out: rows of each kind in the order of their records, and what was counted."""

    def __init__(
        self, octets: bytes, declared: UsageSource = SOURCE, legal: ZoneInfo = PARIS, keys: Keys = IDENTIFIER_KEYS
    ) -> None:
        policy = Policy(legal, keys, SERVING_KEYS)
        self.counts, self.columns = Counts(), list[dict[str, Any]]()
        self.accepted, self.rejected = list[dict[str, Any]](), list[dict[str, Any]]()
        assert declared.delimited is not None
        for block in read_delimited(pa.BufferReader(octets), declared.delimited, declared.whitelist, Tally()):
            for columns in usage_outcomes(block, declared, policy, self.counts):
                self.columns.append(columns)
                rows = pa.table(columns).to_pylist()
                (self.accepted if rows[0]["kind"] == "accepted" else self.rejected).extend(rows)
        for rows in (self.accepted, self.rejected):
            rows.sort(key=lambda row: (row["record_ordinal"], row.get("month_part", 0)))

    @property
    def reasons(self) -> list[tuple[str, str | None]]:
        return [(row["reason"], row["detail"]) for row in self.rejected]

    @property
    def out_of_scope(self) -> dict[str, int]:
        return {reason: count for reason, count in self.counts.out_of_scope.items() if count}


def lines(*records: dict[str, str]) -> bytes:
    return "\n".join("|".join(row) for row in [SOUND.keys(), *(({**SOUND, **record}).values() for record in records)]).encode()


def decide(*records: dict[str, str], declared: UsageSource = SOURCE, legal: ZoneInfo = PARIS) -> Decided:
    return Decided(lines(*records), declared, legal)


def pseudonym(kind: str, value: str) -> bytes:
    return hmac.new(bytes(range(32)), kind.encode() + b"\0" + value.encode(), hashlib.sha256).digest()[:16]


# Accepted


def test_a_sound_record_is_one_interval_of_its_month():
    decided = decide({})

    assert decided.rejected == []
    assert decided.accepted == [
        {
            "kind": "accepted",
            "record_ordinal": 1,
            "byte_offset": len("|".join(SOUND)) + 1,
            "record_key": hashlib.blake2b(b"gateway\x1fr1", digest_size=16, key=bytes(range(32))).digest(),
            "identifier_type": "imsi",
            "identifier_key": pseudonym("imsi", "001010123456789"),
            "access_technology": "4g",
            "roaming_zone": "home",
            "is_estimated": False,
            "usage_month": OCTOBER,
            "interval_index": 0,
            "month_part": 0,
            "opened_at": datetime(2026, 10, 2, 8, tzinfo=UTC),
            "closed_at": datetime(2026, 10, 2, 9, tzinfo=UTC),
            "octets_up": 100,
            "octets_down": 2000,
            "is_prorated": False,
            "is_without_start": False,
        }
    ]


def test_every_column_that_leaves_is_a_declared_one():
    decided = decide({}, {"up": "x"})
    declared = {field.name: field for table in (ACCEPTED, REJECTED) for field in table.arrow_schema}

    for columns in decided.columns:
        for name, values in columns.items():
            assert name == "kind" or values.cast(declared[name].type)


def test_a_record_without_octets_is_accepted():
    assert [row["octets_up"] + row["octets_down"] for row in decide({"up": "0", "down": "0"}).accepted] == [0]


def test_volumes_are_octets_whatever_unit_they_are_written_in():
    kilooctets = source(volume={"up": "up", "down": "down", "octets_per_unit": 1000})

    (row,) = decide({"up": "3", "down": "5"}, declared=kilooctets).accepted

    assert (row["octets_up"], row["octets_down"]) == (3000, 5000)


def test_what_the_source_calls_estimated_is_flagged():
    assert [row["is_estimated"] for row in decide({"note": "E"}, {"note": ""}).accepted] == [True, False]


def test_the_first_identifier_that_is_not_empty_counts():
    decided = decide({"imsi": "", "msisdn": "06 12 34 56 78"}, {"imsi": " 001010123456789 ", "msisdn": "rubbish"})

    assert [(row["identifier_type"], row["identifier_key"]) for row in decided.accepted] == [
        ("msisdn", pseudonym("msisdn", "33612345678")),
        ("imsi", pseudonym("imsi", "001010123456789")),
    ]


# The month cut


@pytest.mark.parametrize(
    ("start", "end", "cut"),
    [
        ("2026-10-31T23:00:00+01:00", "2026-11-01T00:00:00+01:00", [(OCTOBER, 0, 100, False)]),
        ("2026-11-01T00:00:00+01:00", "2026-11-01T00:00:00+01:00", [(NOVEMBER, 0, 100, False)]),
        ("2026-11-01T00:00:00+01:00", "2026-11-01T01:00:00+01:00", [(NOVEMBER, 0, 100, False)]),
        ("2026-10-31T23:00:00+01:00", "2026-11-01T00:20:00+01:00", [(OCTOBER, 1, 75, True), (NOVEMBER, 2, 25, True)]),
        # An hour of which a third lies in October: 33 1/3 of 100.
        ("2026-10-31T23:40:00+01:00", "2026-11-01T00:40:00+01:00", [(OCTOBER, 1, 33, True), (NOVEMBER, 2, 67, True)]),
        # The same instants, written on another clock.
        ("2026-10-31T17:40:00-05:00", "2026-10-31T23:40:00Z", [(OCTOBER, 1, 33, True), (NOVEMBER, 2, 67, True)]),
        (
            "2026-09-30T23:00:00+02:00",
            "2026-11-01T01:00:00+01:00",
            # One hour, 745 hours, one hour, of 747.
            [(date(2026, 9, 1), 1, 0, True), (OCTOBER, 2, 99, True), (NOVEMBER, 3, 1, True)],
        ),
    ],
    ids=[
        "ends at midnight",
        "instant at midnight",
        "begins at midnight",
        "a quarter after",
        "a third before",
        "other clock",
        "three",
    ],
)
def test_an_interval_lies_in_its_legal_month_or_is_split_by_elapsed_time(start, end, cut):
    rows = decide({"start": start, "end": end, "up": "100", "down": "7"}).accepted

    assert [(r["usage_month"], r["month_part"], r["octets_up"], r["is_prorated"]) for r in rows] == cut
    assert sum(row["octets_down"] for row in rows) == 7


def test_the_parts_of_a_split_record_keep_its_position_key_and_whole_interval():
    rows = decide({}, {"id": "r2", "start": "2026-10-31T23:40:00+01:00", "end": "2026-11-01T00:40:00+01:00"}).accepted[1:]

    for name in ("record_ordinal", "byte_offset", "record_key", "identifier_key", "opened_at", "closed_at", "interval_index"):
        assert rows[0][name] == rows[1][name]
    assert rows[0]["record_ordinal"] == 2
    assert rows[0]["closed_at"] == datetime(2026, 10, 31, 23, 40, tzinfo=UTC)


def test_another_legal_zone_cuts_at_its_own_midnight():
    (row,) = decide({"start": "2026-09-30T23:00:00Z", "end": "2026-09-30T23:30:00Z"}, legal=ZoneInfo("UTC")).accepted

    assert row["usage_month"] == date(2026, 9, 1)


def test_a_source_without_starts_gives_its_usage_to_the_month_of_the_close_flagged():
    rows = decide({"end": "2026-11-01T00:00:00+01:00"}, declared=source(time={"format": "iso8601", "end": "end"})).accepted

    assert [(r["usage_month"], r["opened_at"], r["is_without_start"], r["is_prorated"]) for r in rows] == [
        (NOVEMBER, None, True, False)
    ]


@pytest.mark.parametrize("known", ["start", "end"])
def test_a_duration_gives_the_other_end(known):
    declared = source(time={"format": "iso8601", known: known, "duration_s": "note"}, estimated=None)

    (row,) = decide({"note": "3600"}, declared=declared).accepted

    assert (row["opened_at"], row["closed_at"]) == (datetime(2026, 10, 2, 8, tzinfo=UTC), datetime(2026, 10, 2, 9, tzinfo=UTC))


# Rejected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"imsi": "", "msisdn": ""}, ("identifier_missing", "msisdn")),
        ({"imsi": "", "msisdn": "12"}, ("identifier_malformed", "msisdn")),
        ({"imsi": "00101x"}, ("identifier_malformed", "imsi")),
        ({"start": "yesterday"}, ("time_malformed", "start")),
        ({"end": "2026-10-02T11:00:00"}, ("time_malformed", "end")),
        ({"end": "2126-10-02T11:00:00Z"}, ("time_out_of_range", "end")),
        ({"end": "2026-10-02T09:59:59+02:00"}, ("ends_before_it_starts", "end")),
        ({"start": "2025-01-01T00:00:00Z"}, ("duration_out_of_range", "end")),
        ({"up": "-1"}, ("volume_negative", "up")),
        ({"down": "12x4"}, ("volume_malformed", "down")),
        ({"down": ""}, ("volume_malformed", "down")),
        ({"up": str(LARGEST_VOLUME_OCTETS + 1)}, ("volume_out_of_range", "up")),
        ({"rat": "99"}, ("access_technology_unknown", "rat")),
        ({"type": ""}, ("roaming_unknown", "type")),
        ({"note": "e"}, ("estimated_unknown", "note")),
        ({"id": " "}, ("key_missing", "id")),
        ({"note": "E|one field more"}, ("too_many_fields", None)),
        ({"note": '"'}, ("estimated_unknown", "note")),
        ({"note": "\udce9"}, ("not_utf_8", None)),
    ],
    ids=lambda value: str(value).encode("ascii", "backslashreplace").decode(),
)
def test_a_record_that_is_not_sound_is_rejected_with_its_reason_and_column(record, reason):
    octets = "\n".join("|".join(row) for row in (SOUND.keys(), {**SOUND, **record}.values(), SOUND.values()))

    decided = Decided(octets.encode("utf-8", "surrogateescape"))

    assert decided.reasons == [reason]
    assert [row["record_ordinal"] for row in decided.rejected] == [1]
    assert [row["record_ordinal"] for row in decided.accepted] == [2]


def test_a_rejection_keeps_what_could_be_read_of_whose_it_was_and_when():
    (row,) = decide({"up": "x", "start": "2026-10-31T23:40:00+01:00", "end": "2026-11-01T00:40:00+01:00"}).rejected

    assert row["identifier_key"] == pseudonym("imsi", "001010123456789")
    assert (row["usage_month"], row["closed_at"]) == (NOVEMBER, datetime(2026, 10, 31, 23, 40, tzinfo=UTC))
    assert row["record_key"] == decide({}).accepted[0]["record_key"]


@pytest.mark.parametrize(
    "record",
    [{"end": "x"}, {"end": "2126-01-01T00:00:00Z"}, {"end": ""}],
    ids=["malformed", "out of range", "missing"],
)
def test_a_rejection_whose_close_could_not_be_read_has_no_month(record):
    (row,) = decide(record).rejected

    assert (row["usage_month"], row["closed_at"]) == (None, None)


@pytest.mark.parametrize("form", ["iso8601", "epoch_s"])
def test_a_rejection_for_another_reason_keeps_its_close_in_every_clock(form):
    end = {"iso8601": "2026-09-21T14:13:20Z", "epoch_s": "1790000000"}[form]

    (row,) = decide({"imsi": "", "msisdn": "", "end": end}, declared=source(time={"format": form, "end": "end"})).rejected

    assert row["closed_at"] == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("duration", "reason"),
    [("-1", "duration_negative"), ("x", "duration_malformed"), (str(401 * 86400), "duration_out_of_range")],
)
def test_without_a_duration_the_close_is_not_known(duration, reason):
    declared = source(time={"format": "iso8601", "start": "start", "duration_s": "note"}, estimated=None)

    (row,) = decide({"note": duration}, declared=declared).rejected

    assert (row["reason"], row["detail"], row["closed_at"]) == (reason, "note", None)


@pytest.mark.parametrize(("known", "instant"), [("start", "2099-11-30T00:00:00Z"), ("end", "2000-02-02T00:00:00Z")])
def test_a_duration_that_leads_out_of_the_calendar_is_rejected(known, instant):
    # It ended the whole run once.
    declared = source(time={"format": "iso8601", known: known, "duration_s": "note"}, estimated=None)

    assert decide({known: instant, "note": str(400 * 86400)}, declared=declared).reasons == [("time_out_of_range", known)]


def test_a_truncated_record_keeps_whose_it_was():
    decided = Decided(lines({}) + b"\nr2|001010123456789|336123\n")

    assert decided.reasons == [("too_few_fields", None)]
    assert decided.rejected[0]["identifier_key"] == pseudonym("imsi", "001010123456789")
    assert (decided.rejected[0]["usage_month"], decided.rejected[0]["record_ordinal"]) == (None, 2)


def test_a_record_whose_start_is_empty_goes_to_the_month_of_its_close_flagged():
    assert [row["is_without_start"] for row in decide({"start": ""}).accepted] == [True]


# Out of scope


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"imsi": "262011234567890"}, "inbound_roamer"),
        ({"apn": "ims"}, "ims_apn"),
        ({"apn": " ims "}, "ims_apn"),
        ({"apn": "m2m.meters"}, "machine"),
        ({"apn": "iot.cars"}, "machine"),
        ({"imsi": "262011234567890", "apn": "ims"}, "inbound_roamer"),
    ],
)
def test_the_first_rule_of_the_policy_that_a_record_meets_puts_it_out_of_scope(record, reason):
    decided = decide(record)

    assert decided.out_of_scope == {reason: 1}
    assert (decided.accepted, decided.rejected) == ([], [])


@pytest.mark.parametrize("record", [{"imsi": ""}, {"apn": "imsi"}, {"apn": "IMS"}, {"apn": ""}, {"apn": "xm2m."}], ids=str)
def test_a_record_that_meets_no_rule_to_the_letter_is_in_scope(record):
    decided = decide(record)

    assert decided.out_of_scope == {}
    assert len(decided.accepted) == 1


def test_scope_is_decided_before_soundness():
    broken = {"apn": "ims", "up": "x", "end": "x", "type": "?", "id": "", "rat": "99"}

    decided = decide(broken)

    assert (decided.out_of_scope, decided.rejected) == ({"ims_apn": 1}, [])


def test_a_record_that_is_not_readable_as_such_is_never_out_of_scope():
    decided = decide({"apn": "ims", "note": "E|one field more"})

    assert (decided.out_of_scope, decided.reasons) == ({}, [("too_many_fields", None)])


def test_volume_is_counted_of_what_is_accepted_and_of_what_is_out_of_scope():
    counts = decide({"up": "1", "down": "10"}, {"apn": "ims", "up": "100", "down": "1000"}, {"up": "7", "down": "x"}).counts

    assert (counts.volume_parsed_octets, counts.volume_out_of_scope_octets) == (1111, 1100)


# Keys


def test_a_key_tells_records_apart_by_its_columns_in_their_order_and_by_its_source():
    declared = source(key=["id", "type"])
    keys = [
        decide({}, declared=declared),
        decide({"id": "r2"}, declared=declared),
        decide({"type": "RGP"}, declared=declared),
        decide({}, declared=source(key=["type", "id"])),
        decide({}, declared=source(key=["id", "type"], name="other")),
    ]

    assert len({decided.accepted[0]["record_key"] for decided in keys}) == len(keys)


def test_a_key_is_the_same_whatever_else_the_record_says():
    rows = decide({}, {"up": "9", "id": " r1 ", "end": "2026-10-03T00:00:00Z"}).accepted

    assert rows[0]["record_key"] == rows[1]["record_key"]


def test_a_source_without_a_unique_id_has_no_keys():
    assert [row["record_key"] for row in decide({}, {"id": ""}, declared=source(key="none")).accepted] == [None, None]


def test_records_that_lack_a_part_of_their_key_are_not_taken_for_copies_of_one_another():
    decided = decide({"type": "GP", "id": ""}, {"type": "GP", "id": "", "up": "5"}, declared=source(key=["type", "id"]))

    assert decided.reasons == [("key_missing", "id")] * 2
    assert [row["record_key"] for row in decided.rejected] == [None, None]


# Privacy

CLEAR = ("001010123456789", "33612345678")


def outputs(columns: list[dict[str, Any]]) -> str:
    """Every value that leaves, as text and as octets."""
    rows = [row for each in columns for row in pa.table(each).to_pylist()]
    return repr(rows) + "".join(v.hex() + repr(v) for row in rows for v in row.values() if isinstance(v, bytes))


# A number in a volume column is a volume.
@pytest.mark.parametrize("column", [name for name in SOUND if name not in ("up", "down")])
@pytest.mark.parametrize("identifier", ["001010123456789", "33612345678"])
def test_no_identifier_leaves_in_the_clear_whatever_column_it_strays_into(column, identifier):
    decided = decide({}, {column: identifier}, {column: f'"{identifier}'}, {column: f"{identifier}|{identifier}"})

    left = outputs(decided.columns) + repr(decided.counts)
    for clear in CLEAR:
        assert clear not in left
        assert clear.encode().hex() not in left


def test_only_whitelisted_columns_are_read_at_all():
    assert SOURCE.delimited is not None
    with_more = "|".join(["birthday", *SOUND]) + "\n" + "|".join(["1970-01-01", *SOUND.values()])

    blocks = list(read_delimited(pa.BufferReader(with_more.encode()), SOURCE.delimited, SOURCE.whitelist, Tally()))

    assert {name for block in blocks for name in block.records.schema.names} == set(SOUND)
    assert "1970" not in repr([block.records.to_pylist() for block in blocks])


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(list(SOUND)),
            st.sampled_from(
                ["", "0", "-1", "x", "ims", "262011234567890", "2026-11-01T00:30:00+01:00", "2026-12-02T00:00:00Z", "E"]
            )
            | st.text(st.characters(exclude_characters="|\r\n", codec="utf-8"), max_size=8),
            max_size=3,
        ),
        max_size=6,
    )
)
def test_every_record_is_accepted_rejected_or_out_of_scope_and_every_octet_that_was_parsed_is_in_one(changes):
    decided = decide(*changes)

    accepted = {row["record_ordinal"] for row in decided.accepted}
    rejected = {row["record_ordinal"] for row in decided.rejected}
    assert not accepted & rejected
    assert len(rejected) == len(decided.rejected)
    assert len(accepted) + len(rejected) + sum(decided.out_of_scope.values()) == len(changes)
    volume = sum(row["octets_up"] + row["octets_down"] for row in decided.accepted)
    assert decided.counts.volume_parsed_octets == volume + decided.counts.volume_out_of_scope_octets
    for row in decided.rejected:
        assert row["reason"]
        assert (row["usage_month"] is None) == (row["closed_at"] is None)


# Subscriptions

EXPORT = SubscriptionSource.model_validate(
    {
        "name": "export",
        "description": "made up",
        "kind": "subscriptions",
        "format": "delimited",
        "files": {"pattern": "*", "on_changed_file": "supersede"},
        "delimited": {"delimiter": "|", "header": True},
        "identifiers": {"country_code": "33"},
        "time": {"format": "iso8601"},
    }
)
HELD = {
    "subscription_id": "SUB-1",
    "network": "mobile",
    "access_technology": "5g",
    "identifier_type": "msisdn",
    "identifier": "06 12 34 56 78",
    "assigned_from": "2026-01-01T00:00:00+01:00",
    "assigned_to": "",
    "active_from": "2025-01-01T00:00:00+01:00",
    "active_to": "",
    "segment": "consumer",
    "brand": "one",
}


def export(
    *rows: dict[str, str], keys: tuple[Keys, Keys] = (IDENTIFIER_KEYS, SERVING_KEYS)
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Accepted and rejected rows of an export."""
    octets = "\n".join("|".join(row) for row in [HELD.keys(), *({**HELD, **row}.values() for row in rows)]).encode()
    found: dict[str, list[dict[str, Any]]] = {"accepted": [], "rejected": []}
    assert EXPORT.delimited is not None
    for block in read_delimited(pa.BufferReader(octets), EXPORT.delimited, EXPORT.whitelist, Tally()):
        for columns in subscription_outcomes(block, EXPORT, Policy(PARIS, *keys)):
            assert set(columns) <= {"kind", *SUBSCRIPTIONS.names, *REJECTED.names}
            for row in pa.table(columns).to_pylist():
                found[row["kind"]].append(row)
    return found["accepted"], found["rejected"]


def test_an_assignment_says_who_held_an_identifier_from_when_until_when():
    (row,), rejected = export({"assigned_to": "2026-11-01T00:00:00+01:00"})

    assert rejected == []
    assert row["identifier_key"] == pseudonym("msisdn", "33612345678")
    assert row["subscription_key"] == hmac.new(bytes(range(1, 33)), b"subscription\0SUB-1", hashlib.sha256).digest()[:16]
    assert (row["assigned_from"], row["assigned_to"]) == (
        datetime(2025, 12, 31, 23, tzinfo=UTC),
        datetime(2026, 10, 31, 23, tzinfo=UTC),
    )
    assert (row["active_to"], row["network"], row["access_technology"], row["brand"]) == (None, "mobile", "5g", "one")


def test_usage_and_export_give_the_same_identifier_the_same_pseudonym():
    accepted, _ = export({"identifier_type": "imsi", "identifier": SOUND["imsi"]})

    assert accepted[0]["identifier_key"] == decide({}).accepted[0]["identifier_key"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        *[({name: ""}, (f"{name}_missing", name)) for name in ("subscription_id", "access_technology", "segment", "brand")],
        ({"network": "satellite"}, ("network_unknown", "network")),
        ({"identifier_type": "iccid"}, ("identifier_type_unknown", "identifier_type")),
        ({"identifier": ""}, ("identifier_malformed", "identifier")),
        ({"identifier": "rubbish"}, ("identifier_malformed", "identifier")),
        ({"identifier_type": "imsi"}, ("identifier_malformed", "identifier")),
        ({"assigned_from": ""}, ("time_malformed", "assigned_from")),
        ({"active_from": "1 Jan"}, ("time_malformed", "active_from")),
        ({"assigned_to": "soon"}, ("time_malformed", "assigned_to")),
        ({"active_to": "9999-12-31T00:00:00Z"}, ("time_malformed", "active_to")),
        ({"assigned_to": "2025-12-31T00:00:00Z"}, ("ends_before_it_starts", "assigned_to")),
        ({"active_to": "2024-12-31T00:00:00Z"}, ("ends_before_it_starts", "active_to")),
        ({"brand": "one|two"}, ("too_many_fields", None)),
    ],
    ids=str,
)
def test_an_assignment_that_is_not_sound_is_rejected_with_its_reason_and_column(row, reason):
    accepted, rejected = export({}, row)

    assert [row["record_ordinal"] for row in accepted] == [1]
    assert [(row["record_ordinal"], row["reason"], row["detail"]) for row in rejected] == [(2, *reason)]


def test_an_assignment_may_end_when_it_begins():
    accepted, _ = export({"assigned_to": HELD["assigned_from"]})

    assert accepted[0]["assigned_from"] == accepted[0]["assigned_to"]


@pytest.mark.parametrize("column", [name for name in HELD if name not in ("access_technology", "segment", "brand")])
def test_no_identifier_of_an_export_leaves_in_the_clear_whatever_column_it_strays_into(column):
    accepted, rejected = export({}, {column: "33612345678"}, {column: "33612345678|x"})

    left = repr(accepted) + repr(rejected)
    for clear in ("33612345678", "12345678", "06 12 34", "SUB-1"):
        assert clear not in left


# Volume against duration


@pytest.mark.parametrize(
    ("network", "down", "reasons"),
    [
        ("mobile", 1_250_000_000 * 3661 - 101, []),
        ("mobile", 1_250_000_000 * 3661, [("volume_implausible", "down")]),
        ("fixed", 1_250_000_000 * 3661, []),
    ],
)
def test_more_octets_than_an_access_carries_in_the_interval_are_no_volume(network, down, reasons):
    assert Decided(lines({"down": str(down)}), source(network=network)).reasons == reasons


# Keys that were rotated


def test_each_month_of_a_record_has_the_keys_that_serve_it():
    straddling = lines({"start": "2026-10-31T23:00:00+01:00", "end": "2026-11-01T01:00:00+01:00"})

    october, november = Decided(straddling, keys=ROTATED_KEYS).accepted

    assert (october["usage_month"], november["usage_month"]) == (OCTOBER, NOVEMBER)
    assert october["identifier_key"] == KEY.pseudonym("imsi", SOUND["imsi"])
    assert november["identifier_key"] == NEXT_KEY.pseudonym("imsi", SOUND["imsi"])
    assert october["record_key"] != november["record_key"]
    assert october["record_key"] == Decided(straddling).accepted[0]["record_key"]


def test_a_rejected_record_has_the_keys_of_the_month_it_closes_in():
    november = {"start": "2026-11-02T10:00:00+01:00", "end": "2026-11-02T11:00:00+01:00", "up": "x"}

    october, later = Decided(lines({"up": "x"}, november), keys=ROTATED_KEYS).rejected

    assert october["identifier_key"] == KEY.pseudonym("imsi", SOUND["imsi"])
    assert later["identifier_key"] == NEXT_KEY.pseudonym("imsi", SOUND["imsi"])


@pytest.mark.parametrize(("records", "key"), [(({}, {"end": "x"}), KEY), (({"end": "x"},), NEXT_KEY)])
def test_a_record_of_no_month_has_the_keys_of_the_first_month_of_its_file_else_the_latest(records, key):
    (lost,) = Decided(lines(*records), keys=ROTATED_KEYS).rejected

    assert lost["identifier_key"] == key.pseudonym("imsi", SOUND["imsi"])


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("", [(KEY, SERVING, FROM_THE_BEGINNING, 0), (NEXT_KEY, SERVING, NOVEMBER, 1), (NEXT_KEY, NEXT_SERVING, FEBRUARY, 2)]),
        ("2026-11-01T00:00:00+01:00", [(KEY, SERVING, FROM_THE_BEGINNING, 0)]),
        ("2026-11-01T00:00:01+01:00", [(KEY, SERVING, FROM_THE_BEGINNING, 0), (NEXT_KEY, SERVING, NOVEMBER, 1)]),
    ],
)  # fmt: skip
def test_an_assignment_has_a_row_for_each_term_of_keys_it_lasts_over(end, expected):
    serving = keys_of((FROM_THE_BEGINNING, SERVING), (FEBRUARY, NEXT_SERVING))

    found, _ = export({"assigned_to": end, "active_to": end}, keys=(ROTATED_KEYS, serving))

    assert [(row["identifier_key"], row["subscription_key"], row["keys_from"], row["keys_part"]) for row in found] == [
        (key.pseudonym("msisdn", "33612345678"), served.pseudonym("subscription", "SUB-1"), first, part)
        for key, served, first, part in expected
    ]


def test_an_assignment_that_begins_under_the_later_keys_has_only_those():
    begun = "2026-11-05T00:00:00+01:00"

    (row,), _ = export({"assigned_from": begun, "active_from": begun}, keys=(ROTATED_KEYS, SERVING_KEYS))

    assert (row["keys_from"], row["keys_part"]) == (NOVEMBER, 0)


def test_an_assignment_that_ends_as_it_begins_still_has_a_row():
    at = "2026-11-01T00:00:00+01:00"
    times = dict.fromkeys(("assigned_from", "assigned_to", "active_from", "active_to"), at)

    (row,), _ = export(times, keys=(ROTATED_KEYS, SERVING_KEYS))

    assert row["keys_from"] == NOVEMBER
