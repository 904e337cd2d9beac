"""Values as sources write them become canonical values; what is not sound is named and never guessed."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.legal_calendar import FIRST_YEAR, LAST_YEAR
from jobs.normalise import Faults, identifiers, instants, integers, mapped, text
from schemas.source import IdentifierRules, Mapped, Time

FRENCH = IdentifierRules(country_code="33")
UNIVERSAL = Time(format="%Y%m%d%H%M%S", zone="UTC", ambiguous="reject", end="closed")
EDGES = (str(FIRST_YEAR), str(LAST_YEAR))
"""Of these years not every month is in the calendar."""
ISO = Time(format="iso8601", end="closed")
EPOCH_S, EPOCH_MS = Time(format="epoch_s", end="closed"), Time(format="epoch_ms", end="closed")
WITH_OFFSET = Time(format="%Y%m%d%H%M%S", utc_offset_column="offset", end="closed")


def paris(ambiguous: str, pattern: str = "%Y%m%d%H%M%S") -> Time:
    return Time.model_validate({"format": pattern, "zone": "Europe/Paris", "ambiguous": ambiguous, "end": "closed"})


def read(values: list[Any] | pa.Array, time: Time, offsets: list[str | None] | None = None) -> list[str | None]:
    """Each instant in UTC, or what is wrong with it."""
    column = values if isinstance(values, pa.Array) else pa.array(values)
    faults = Faults.none(len(column))
    numbers, read = instants(column, "closed", time, None if offsets is None else pa.array(offsets, pa.string()), faults)
    reasons = [faults.reasons[code][0] for code in faults.codes]
    found = [(datetime(1970, 1, 1) + timedelta(microseconds=int(n))).isoformat() for n in numbers]  # noqa: DTZ001 - UTC by name
    assert all(reason is not None for reason, is_read in zip(reasons, read, strict=True) if not is_read)
    return [reason or when for reason, when in zip(reasons, found, strict=True)]


def one(value: Any, time: Time, offset: str | None = None) -> str | None:
    """The same alone and beside a sound, a malformed and an impossible value: no row depends on its neighbours."""
    alone = read([value], time, None if offset is None else [offset])
    if isinstance(value, str):
        neighbours = ["2026-02-30T00:00:00Z", "rubbish", "20261025023000", "20260329023000", None]
        offsets = None if offset is None else [offset, *["+0200"] * len(neighbours)]
        assert read([value, *neighbours], time, offsets)[0] == alone[0]
    return alone[0]


# Identifiers


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("33612345678", "33612345678"),
        ("+33612345678", "33612345678"),
        ("0033612345678", "33612345678"),
        ("0612345678", "33612345678"),
        ("06 12 34 56 78", "33612345678"),
        ("06.12.34.56.78", "33612345678"),
        ("+33 6-12-34-56-78", "33612345678"),
        ("+262692123456", "262692123456"),
        ("+1 (212) 555-0100", "12125550100"),
        ("123456", None),
        ("1234567890123456", None),
        ("0", None),
        ("+", None),
        ("33612E45678", None),
        ("٠٦١٢٣٤٥٦٧٨", None),
        ("", None),
    ],
)
def test_a_telephone_number_becomes_its_e164_digits(written, normalised):
    assert identifiers("msisdn", pa.array([written]), FRENCH).to_pylist() == [normalised]


def test_without_a_country_a_national_number_is_malformed():
    found = identifiers("msisdn", pa.array(["0612345678", "+33612345678"]), IdentifierRules())

    assert found.to_pylist() == [None, "33612345678"]


def test_a_trunk_zero_in_brackets_is_never_kept():
    assert identifiers("msisdn", pa.array(["+33 (0)6 12 34 56 78"]), FRENCH).to_pylist()[0] in (None, "33612345678")


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("001010123456789", "001010123456789"),
        ("20801123456789", "20801123456789"),
        ("2080112345678", None),
        ("0010101234567890", None),
        ("00101012345678F", None),
        ("+001010123456789", None),
    ],
)
def test_an_imsi_is_14_or_15_digits(written, normalised):
    assert identifiers("imsi", pa.array([written]), FRENCH).to_pylist() == [normalised]


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("AA:BB:CC:00:11:22", "aabbcc001122"),
        ("aa-bb-cc-00-11-22", "aabbcc001122"),
        ("aabb.cc00.1122", "aabbcc001122"),
        ("aabbcc001122", "aabbcc001122"),
        ("aabbcc00112", None),
        ("gabbcc001122", None),
    ],
)
def test_a_mac_address_is_12_hexadecimal_digits(written, normalised):
    assert identifiers("mac", pa.array([written]), FRENCH).to_pylist() == [normalised]


def test_a_line_id_is_as_the_source_declares_it():
    rules = IdentifierRules(line_id_pattern=r"^FTTH-\d{4}$")

    assert identifiers("line_id", pa.array(["FTTH-0001", "ftth-0001", "FTTH-00012"]), rules).to_pylist() == [
        "FTTH-0001",
        None,
        None,
    ]


def test_white_space_around_a_value_is_not_part_of_it():
    assert text(pa.array([" a b\t", "\u00a0c\r", None, ""])).to_pylist() == ["a b", "c", "", ""]


# Whole numbers


@pytest.mark.parametrize(
    ("written", "number", "reason"),
    [
        ("0", 0, None),
        ("007", 7, None),
        (" 42 ", 42, None),
        ("999999999999999999", 10**18 - 1, None),
        ("1000000000000000000", 0, "volume_malformed"),
        ("-5", 0, "volume_negative"),
        ("+5", 0, "volume_malformed"),
        ("1.5", 0, "volume_malformed"),
        ("1e6", 0, "volume_malformed"),
        ("1 000", 0, "volume_malformed"),
        ("1,000", 0, "volume_malformed"),
        ("0x10", 0, "volume_malformed"),
        ("٤٢", 0, "volume_malformed"),
        ("NaN", 0, "volume_malformed"),
        ("", 0, "volume_malformed"),
        (None, 0, "volume_malformed"),
    ],
)
def test_a_whole_number_is_digits_and_nothing_else(written, number, reason):
    faults = Faults.none(2)

    found = integers(pa.array([written, "1"], pa.string()), "up", faults, "volume")

    assert found.tolist() == [number, 1]
    assert [faults.reasons[code][0] for code in faults.codes] == [reason, None]


@pytest.mark.parametrize(
    ("values", "numbers", "reasons"),
    [
        (pa.array([1, None, -1]), [1, 0, 0], [None, "volume_malformed", "volume_negative"]),
        (pa.array([2**63 - 1, 2**63, 0], pa.uint64()), [2**63 - 1, 0, 0], [None, "volume_malformed", None]),
        (pa.array([-(2**63), 2**63 - 1]), [0, 2**63 - 1], ["volume_negative", None]),
        (pa.array([1.0, 1.5, 2e10]), [1, 0, 0], [None, "volume_malformed", "volume_malformed"]),
    ],
    ids=["64 bits", "unsigned", "least and most", "not whole"],
)
def test_a_native_number_is_judged_the_same(values, numbers, reasons):
    faults = Faults.none(len(values))

    assert integers(values, "up", faults, "volume").tolist() == numbers
    assert [faults.reasons[code][0] for code in faults.codes] == reasons


# Values through a table


def test_a_value_goes_through_the_sources_table_and_an_unknown_one_is_named():
    faults = Faults.none(4)
    rule = Mapped(column="type", values={"GP": "home", "RGP": "roaming"})

    found = mapped({"type": pa.array(["GP", " RGP ", "gp", None])}, rule, faults, "roaming")

    assert found.to_pylist() == ["home", "roaming", None, None]
    assert [faults.reasons[code] for code in faults.codes] == [(None, None)] * 2 + [("roaming_unknown", "type")] * 2


def test_a_constant_needs_no_column_and_no_rule_gives_null():
    assert mapped({}, Mapped(constant="home"), Faults.none(2), "roaming").to_pylist() == ["home", "home"]
    assert mapped({}, None, Faults.none(2), "estimated").to_pylist() == [None, None]


# Instants


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2026-10-01T00:00:00+02:00", "2026-09-30T22:00:00"),
        ("2026-10-01T00:00:00+0200", "2026-09-30T22:00:00"),
        ("2026-10-01 00:00:00Z", "2026-10-01T00:00:00"),
        ("2026-10-01T00:00Z", "2026-10-01T00:00:00"),
        ("2026-10-01T00:00:00.5-03:30", "2026-10-01T03:30:00.500000"),
        ("2026-10-01T00:00:00.123456Z", "2026-10-01T00:00:00.123456"),
        ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00"),
        ("2026-10-01T00:00:00", "time_malformed"),
        ("2026-10-01", "time_malformed"),
        ("2026-02-30T00:00:00Z", "time_malformed"),
        ("2026-02-29T00:00:00Z", "time_malformed"),
        ("2026-13-01T00:00:00Z", "time_malformed"),
        ("2026-10-01T24:00:00Z", "time_malformed"),
        ("2026-10-01T00:00:60Z", "time_malformed"),
        ("2026-10-01T00:00:00+99:00", "time_malformed"),
        ("2026-10-01T00:00:00+15:00", "time_malformed"),
        ("2026-10-01T00:00:00-00:60", "time_malformed"),
        ("01/10/2026 00:00:00", "time_malformed"),
        ("1999-12-31T23:59:59Z", "time_out_of_range"),
        ("2100-01-01T00:00:00Z", "time_out_of_range"),
        ("1000-01-01T00:00:00Z", "time_out_of_range"),
        ("", "time_malformed"),
    ],
)
def test_an_iso_8601_instant_carries_its_offset(written, utc):
    assert one(written, ISO) == utc


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime(2001, 1, 1), datetime(2098, 1, 1)), st.integers(-14 * 4, 14 * 4))  # noqa: DTZ001 - zone follows
def test_any_iso_8601_instant_is_read_exactly_alone_or_beside_a_day_that_does_not_exist(naive, quarters):
    instant = naive.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)))
    expected = instant.astimezone(UTC).replace(tzinfo=None).isoformat()

    assert read([instant.isoformat()], ISO) == [expected]
    assert read([instant.isoformat(), "2026-02-30T00:00:00Z"], ISO)[0] == expected


@pytest.mark.parametrize(
    ("value", "time", "utc"),
    [
        ("1790000000", EPOCH_S, "2026-09-21T14:13:20"),
        (1790000000, EPOCH_S, "2026-09-21T14:13:20"),
        ("1790000000123", EPOCH_MS, "2026-09-21T14:13:20.123000"),
        (1790000000123, EPOCH_MS, "2026-09-21T14:13:20.123000"),
        ("1790000000123", EPOCH_S, "time_out_of_range"),
        ("1790000000", EPOCH_MS, "time_out_of_range"),
        ("-1", EPOCH_S, "time_negative"),
        ("1790000000.5", EPOCH_S, "time_malformed"),
        ("", EPOCH_S, "time_malformed"),
        (2**63 - 1, EPOCH_S, "time_out_of_range"),
    ],
)
def test_an_epoch_is_whole_seconds_or_milliseconds(value, time, utc):
    assert one(value, time) == utc


@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("time", [EPOCH_S, EPOCH_MS])
def test_an_epoch_so_large_that_64_bits_overflow_does_not_come_back_as_a_date(turns, time):
    scale = 10**6 if time is EPOCH_S else 10**3
    wraps_to_2026 = (1_790_000_000 * 10**6 + turns * 2**64) // scale + 1
    assert one(str(wraps_to_2026), time) == "time_out_of_range"


@pytest.mark.parametrize(
    ("written", "ambiguous", "utc"),
    [
        ("20261001000000", "reject", "2026-09-30T22:00:00"),
        ("20261231235959", "reject", "2026-12-31T22:59:59"),
        ("20261025015959", "reject", "2026-10-24T23:59:59"),
        ("20261025020000", "earliest", "2026-10-25T00:00:00"),
        ("20261025020000", "latest", "2026-10-25T01:00:00"),
        ("20261025020000", "reject", "time_ambiguous"),
        ("20261025025959", "earliest", "2026-10-25T00:59:59"),
        ("20261025025959", "latest", "2026-10-25T01:59:59"),
        ("20261025030000", "reject", "2026-10-25T02:00:00"),
        ("20260329015959", "reject", "2026-03-29T00:59:59"),
        ("20260329020000", "earliest", "time_does_not_exist"),
        ("20260329025959", "latest", "time_does_not_exist"),
        ("20260329023000", "reject", "time_does_not_exist"),
        ("20260329030000", "reject", "2026-03-29T01:00:00"),
        ("20260230000000", "earliest", "time_malformed"),
        ("20261001240000", "earliest", "time_malformed"),
        ("20261001000060", "earliest", "time_malformed"),
        ("2026100100000", "earliest", "time_malformed"),
        ("2026 1001000000", "earliest", "time_malformed"),
        ("202610010000000", "earliest", "time_malformed"),
        ("00000000000000", "earliest", "time_malformed"),
    ],
)
def test_a_local_time_is_read_on_the_sources_clock(written, ambiguous, utc):
    assert one(written, paris(ambiguous)) == utc


def test_a_malformed_time_in_the_hour_that_comes_twice_spoils_only_its_own_record():
    # Both in one block ended the whole run once.
    assert read([None, "20261025023000", "rubbish"], paris("earliest")) == [
        "time_malformed",
        "2026-10-25T00:30:00",
        "time_malformed",
    ]


def test_a_pattern_may_say_days_first():
    assert one("01/10/2026 00:00:00", paris("reject", "%d/%m/%Y %H:%M:%S")) == "2026-09-30T22:00:00"


def test_a_percent_sign_before_a_d_is_no_day():
    assert read(["202610 %d 120000", "202610 31 120000"], paris("reject", "%Y%m %%d %H%M%S"))[1] == "time_malformed"


def _of_python(value: str) -> str:
    """A time of digits only by Python's own calendar."""
    if not re.fullmatch("[0-9]{14}", value):
        return "time_malformed"
    year, *rest = (int(value[begin:end]) for begin, end in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14)))
    try:
        # Python has no year 0; year 400 has the same days.
        instant = datetime(year or 400, *rest)  # noqa: DTZ001 - UTC by name
    except ValueError:
        return "time_malformed"
    return instant.isoformat() if LAST_YEAR > year > FIRST_YEAR else "time_out_of_range"


ALMOST_TIMES = st.one_of(
    st.datetimes().map(lambda instant: f"{instant.year:04}{instant:%m%d%H%M%S}"),
    st.from_regex(r"20[0-9]{2}[01][0-9][0-3][0-9][0-2][0-9][0-6][0-9][0-6][0-9]", fullmatch=True),
    st.from_regex(r"[0-9]{12,16}", fullmatch=True),
    st.text("0123456789 :/+-é٣\0", max_size=16),
)


@given(st.lists(ALMOST_TIMES, min_size=1, max_size=8), st.integers(0, 3))
def test_times_of_digits_are_those_of_pythons_calendar(values, first):
    inside = [value for value in values if value.strip()[:4] not in EDGES] or ["rubbish"]
    column = pa.array([None, *inside], pa.string())[1:][first:]
    assert read(column, UNIVERSAL) == [_of_python(value.strip()) for value in inside[first:]]


@pytest.mark.parametrize("form", ["%Y%m%d%H%M%S", "%d/%m/%Y %H:%M:%S", "à %H:%M:%S%%, %d.%m.%Y", "%m %Y, %d (%H)", "%y%m%d%H"])
def test_a_day_is_there_if_its_month_has_it(form):
    days = [(2026, month, day) for month in range(1, 13) for day in range(1, 32)] + [(2028, 2, 29), (2026, 0, 1), (2026, 13, 1)]
    written = [
        form.replace("%y", f"{year % 100:02}").replace("%Y", f"{year:04}").replace("%m", f"{month:02}").replace("%d", f"{day:02}")
        .replace("%H", "12").replace("%M", "30").replace("%S", "00").replace("%%", "%")
        for year, month, day in days
    ]  # fmt: skip

    found = [value[:10] for value in read(written, paris("reject", form))]

    assert found == [
        f"{year}-{month:02}-{day:02}" if 1 <= month <= 12 and day <= monthrange(year, month)[1] else "time_malfo"
        for year, month, day in days
    ]


@pytest.mark.parametrize(
    ("offset", "utc"),
    [
        ("+0200", "2026-09-30T22:00:00"),
        ("+02:00", "2026-09-30T22:00:00"),
        ("-0330", "2026-10-01T03:30:00"),
        ("+0545", "2026-09-30T18:15:00"),
        (" +0200 ", "2026-09-30T22:00:00"),
        ("+0000", "2026-10-01T00:00:00"),
        ("+1400", "2026-09-30T10:00:00"),
        ("+0210", "utc_offset_malformed"),
        ("+1500", "utc_offset_malformed"),
        ("+9900", "utc_offset_malformed"),
        ("0200", "utc_offset_malformed"),
        ("+2", "utc_offset_malformed"),
        ("+٠٢00", "utc_offset_malformed"),
        ("Z", "utc_offset_malformed"),
        ("", "utc_offset_malformed"),
    ],
)
def test_a_local_time_with_an_offset_is_that_clock_s_time_minus_the_offset(offset, utc):
    assert one("20261001000000", WITH_OFFSET, offset) == utc


def test_the_offset_settles_the_hour_that_comes_twice():
    twice = ["20261025023000", "20261025023000"]

    assert read(twice, WITH_OFFSET, ["+0200", "+0100"]) == ["2026-10-25T00:30:00", "2026-10-25T01:30:00"]


@pytest.mark.parametrize(
    ("values", "time", "found"),
    [
        (pa.array([1790000000123], pa.timestamp("ms", "Europe/Paris")), ISO, "2026-09-21T14:13:20.123000"),
        (pa.array([1790000000123456789], pa.timestamp("ns", "UTC")), ISO, "2026-09-21T14:13:20.123456"),
        (pa.array([1790000000123456789], pa.timestamp("ns")), paris("earliest"), "2026-09-21T12:13:20"),
        (pa.array([1790000000], pa.timestamp("s")), ISO, "time_malformed"),
        (pa.array([1790000000], pa.timestamp("s")), WITH_OFFSET, "time_malformed"),
        (pa.array([None], pa.timestamp("us", "UTC")), ISO, "time_malformed"),
        (pa.array([None], pa.timestamp("us")), paris("earliest"), "time_malformed"),
    ],
    ids=["instant", "instant in nanoseconds", "local", "no clock declared", "offset declared", "null", "null local"],
)
def test_a_native_time_is_an_instant_if_it_has_a_zone_and_else_the_sources_local_time(values, time, found):
    assert read(values, time) == [found]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=16) | st.sampled_from(["20261025023000", "20260329023000", "2026-10-01T00:00Z"]), max_size=6))
@pytest.mark.parametrize("time", [ISO, EPOCH_S, EPOCH_MS, paris("earliest"), paris("latest"), paris("reject")], ids=str)
def test_no_text_whatever_stops_the_reading_and_no_row_depends_on_its_neighbours(time, values):
    together = read(pa.array(values, pa.string()), time)

    assert together == [read([value], time)[0] for value in values]


# Faults


def test_the_first_reason_that_is_found_stays():
    faults = Faults.none(3)

    faults.mark(np.array([True, False, False]), "first", "a")
    faults.mark(np.array([True, True, False]), "second", "b")

    reasons, columns = faults.columns(np.arange(3))
    assert reasons.to_pylist() == ["first", "second", None]
    assert columns.to_pylist() == ["a", "b", None]
    assert faults.sound.tolist() == [False, False, True]


def test_the_readers_faults_come_first_and_name_no_column():
    faults = Faults.of(pa.array([None, "too_few_fields", "not_utf_8", None, "too_few_fields"]))
    faults.mark(np.ones(5, bool), "time_malformed", "closed")

    reasons, columns = faults.columns(np.arange(5))
    assert reasons.to_pylist() == ["time_malformed", "too_few_fields", "not_utf_8", "time_malformed", "too_few_fields"]
    assert columns.to_pylist() == ["closed", None, None, "closed", None]


def test_faults_of_one_column_join_the_others():
    faults, own = Faults.none(3), Faults.none(3)
    faults.mark(np.array([True, False, False]), "first", "a")
    own.mark(np.array([True, True, False]), "own", "b")

    faults.include(own)

    assert faults.columns(np.arange(3))[0].to_pylist() == ["first", "own", None]
