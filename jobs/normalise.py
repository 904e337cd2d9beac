"""Values as sources write them, to canonical values: identifiers, instants, volumes.

A value that is not sound is named, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.known import octets_and_offsets
from jobs.legal_calendar import FIRST_YEAR, LAST_YEAR
from schemas.source import IdentifierRules, IdentifierType, Mapped, Time

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

_SECOND = 1_000_000
_SPACE = ord(" ")
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):?(00|15|30|45)")
_ISO = (
    r"^[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-](0\d|1[0-4]):?[0-5]\d)$"
)
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
"""Digits that strptime's directives of digits only write."""
_HIGHEST = {"H": 23, "M": 59, "S": 59}
_EARLIEST = int(datetime(FIRST_YEAR, 2, 1, tzinfo=UTC).timestamp()) * _SECOND
_LATEST = int(datetime(LAST_YEAR, 12, 1, tzinfo=UTC).timestamp()) * _SECOND


@dataclass
class Faults:
    """What is wrong with each row of a block: the first reason that was found, and the column at fault."""

    codes: npt.NDArray[np.int16]
    reasons: list[tuple[str | None, str | None]] = field(default_factory=lambda: [(None, None)])

    @classmethod
    def none(cls, rows: int) -> Faults:
        """Nothing is wrong yet."""
        return cls(np.zeros(rows, np.int16))

    @classmethod
    def of(cls, records: pa.StringArray) -> Faults:
        """Begin with the faults the reader found in records as such."""
        faults = cls.none(len(records))
        for reason in pc.unique(records.drop_null()).to_pylist():
            faults.mark(pc.fill_null(pc.equal(records, reason), False).to_numpy(zero_copy_only=False), reason, None)
        return faults

    def mark(self, wrong: Mask, reason: str | None, column: str | None) -> None:
        """Give rows that have no reason yet this one."""
        if not wrong.any():
            return
        self.reasons.append((reason, column))
        self.codes[wrong & (self.codes == 0)] = len(self.reasons) - 1

    def include(self, others: Faults) -> None:
        """Give rows that have no reason yet the one of the others."""
        for code, (reason, column) in enumerate(others.reasons[1:], start=1):
            self.mark(others.codes == code, reason, column)

    @property
    def sound(self) -> Mask:
        """Rows without a fault."""
        mask: Mask = self.codes == 0
        return mask

    def columns(self, rows: Integers) -> tuple[pa.StringArray, pa.StringArray]:
        """Reason and column at fault of some rows."""
        chosen = [self.reasons[code] for code in self.codes[rows]]
        return pa.array([c[0] for c in chosen], pa.string()), pa.array([c[1] for c in chosen], pa.string())


def text(values: pa.Array) -> pa.StringArray:
    """Values as text without white space around them; null is the empty text."""
    written = pc.fill_null(values.cast(pa.string()), "")
    return pc.utf8_trim_whitespace(written) if _may_hold_white_space(written) else written


def _may_hold_white_space(texts: pa.StringArray) -> bool:
    """Some octet is white space, a control or not of ASCII: to look for one takes a third of the time of trimming."""
    if not len(texts):
        return False
    octets, bounds = octets_and_offsets(texts)
    # Beyond ASCII an octet is a negative number.
    return bool((octets[bounds[0] : bounds[-1]].view(np.int8) <= _SPACE).any())


def is_given(values: pa.Array) -> Mask:
    """Which values are there: of a text, which are not empty."""
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_dictionary(values.type)
    given: Mask = pc.not_equal(text(values), "").to_numpy(zero_copy_only=False) if is_text else is_valid(values)
    return given


def by_distinct(values: pa.StringArray, convert: Callable[[pa.StringArray], pa.Array]) -> pa.Array:
    """Convert each distinct value once."""
    encoded = pc.dictionary_encode(values)
    return convert(encoded.dictionary).take(encoded.indices)


def is_valid(values: pa.Array) -> Mask:
    """Which values are not null."""
    mask: Mask = values.is_valid().to_numpy(zero_copy_only=False)
    return mask


def identifiers(kind: IdentifierType, values: pa.StringArray, rules: IdentifierRules) -> pa.StringArray:
    """Normalised identifiers: IMSI and E.164 as digits, MAC as 12 hexadecimal digits, line id as declared; null if malformed."""
    if kind == "imsi":
        # Without a regular expression, which takes five times as long.
        length = pc.binary_length(values)
        is_sound = pc.and_(pc.ascii_is_decimal(values), pc.and_(pc.greater_equal(length, 14), pc.less_equal(length, 15)))
        return pc.if_else(is_sound, values, pa.scalar(None, pa.string()))
    if kind == "mac":
        return _matching(pc.utf8_lower(pc.replace_substring_regex(values, r"[:.\-]", "")), r"^[0-9a-f]{12}$")
    if kind == "line_id":
        return _matching(values, rules.line_id_pattern)
    # +33 (0)6 … is how a number is printed that is dialled either way.
    international = pc.replace_substring_regex(values, r"^((?:\+|00)[\s.\-]*\d{1,3})[\s.\-]*\(0\)", r"\1")
    digits = pc.replace_substring_regex(international, r"[\s().\-]", "")
    digits = pc.replace_substring_regex(digits, r"^(\+|00)", "")
    if rules.country_code:
        digits = pc.replace_substring_regex(digits, r"^0([1-9])", rf"{rules.country_code}\1")
    return _matching(digits, r"^[1-9]\d{6,14}$")


def _matching(values: pa.StringArray, pattern: str) -> pa.StringArray:
    return pc.if_else(pc.match_substring_regex(values, pattern), values, pa.scalar(None, pa.string()))


def integers(values: pa.Array, column: str, faults: Faults, what: str) -> Integers:
    """Whole numbers that are not negative; others are marked ``<what>_malformed`` or ``<what>_negative`` and read as 0."""
    if pa.types.is_integer(values.type):
        if pa.types.is_uint64(values.type):
            fits = pc.less_equal(values, pa.scalar(np.iinfo(np.int64).max, pa.uint64()))
            values = pc.if_else(fits, values, pa.scalar(None, pa.uint64()))
        faults.mark(~is_valid(values), f"{what}_malformed", column)
        numbers = pc.fill_null(values, 0).cast(pa.int64()).to_numpy(zero_copy_only=False)
        faults.mark(numbers < 0, f"{what}_negative", column)
        return np.where(numbers < 0, 0, numbers)
    written = text(values)
    # Without a regular expression, which takes five times as long.
    is_sound = pc.and_(pc.ascii_is_decimal(written), pc.less_equal(pc.binary_length(written), 18))
    digits, sound = written, is_sound.to_numpy(zero_copy_only=False)
    if not sound.all():
        digits = pc.if_else(is_sound, written, pa.scalar(None, pa.string()))
        negative = pc.match_substring_regex(written, r"^-\d+$").to_numpy(zero_copy_only=False)
        faults.mark(negative, f"{what}_negative", column)
        faults.mark(~sound, f"{what}_malformed", column)
    numbers = pc.fill_null(digits, "0").cast(pa.int64()).to_numpy()
    return np.asarray(numbers, np.int64)


def mapped(
    records: Mapping[str, pa.Array], rule: Mapped | None, faults: Faults, what: str, may_be_empty: bool = False
) -> pa.StringArray:
    """Values of a rule's table, its constant, or null without a rule; a value the table lacks is marked ``<what>_unknown``."""
    rows = len(faults.codes)
    if rule is None or rule.column is None:
        return pa.repeat(pa.scalar(rule.constant if rule else None, pa.string()), rows)
    table, otherwise = rule.values, rule.otherwise

    def look_up(distinct: pa.StringArray) -> pa.StringArray:
        return pa.array([table.get(value, otherwise if value else None) for value in distinct.to_pylist()], pa.string())

    written = text(records[rule.column])
    values = by_distinct(written, look_up)
    unknown = ~is_valid(values)
    if may_be_empty:
        unknown &= pc.not_equal(written, "").to_numpy(zero_copy_only=False)
    faults.mark(unknown, f"{what}_unknown", rule.column)
    return values


def instants(values: pa.Array, column: str, time: Time, offsets: pa.Array | None, faults: Faults) -> tuple[Integers, Mask]:
    """Instants in microseconds UTC, and which could be read; the others are marked with what is wrong.

    Args:
        values: the column as it was read.
        column: its name.
        time: the source's clock.
        offsets: the column of UTC offsets, if the clock is declared by one.
        faults: is marked.
    """
    if pa.types.is_timestamp(values.type):
        found = _native(values, time, column, faults)
    elif time.format.startswith("epoch"):
        found = _epoch(values, time, column, faults)
    elif time.format == "iso8601":
        found = _iso(text(values))
    else:
        found = _local(text(values), time, column, offsets, faults)
    read = is_valid(found)
    faults.mark(~read, "time_malformed", column)
    numbers = pc.fill_null(found, 0).to_numpy(zero_copy_only=False)
    inside = is_in_calendar(numbers)
    faults.mark(read & ~inside, "time_out_of_range", column)
    return numbers, read & inside


def is_in_calendar(instants: Integers) -> Mask:
    """Which instants lie in the years of the legal calendar, whatever the zone."""
    return (instants >= _EARLIEST) & (instants < _LATEST)


def _epoch(values: pa.Array, time: Time, column: str, faults: Faults) -> pa.Array:
    scale = _SECOND if time.format == "epoch_s" else 1000
    own = Faults.none(len(values))
    numbers = integers(values, column, own, "time")
    faults.include(own)
    # Beyond the calendar a product could overflow and come back into it.
    return pa.array(np.minimum(numbers, _LATEST // scale) * scale, mask=~own.sound)


def _iso(values: pa.StringArray) -> pa.Array:
    shaped = _matching(values, _ISO)
    try:
        return shaped.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    except pa.ArrowInvalid:
        return pa.array([_iso_microseconds(value) for value in shaped.to_pylist()], pa.int64())


def _iso_microseconds(value: str | None) -> int | None:
    """One instant; None for a day that the calendar lacks, such as 30 February."""
    try:
        return value and round(datetime.fromisoformat(value).timestamp() * _SECOND)  # type: ignore[return-value]
    except ValueError:
        return None


def _local(values: pa.StringArray, time: Time, column: str, offsets: pa.Array | None, faults: Faults) -> pa.Array:
    layout = _layout_of(time.format)
    naive = _by_written_back(values, time.format) if layout is None else _of_digits(values, layout)
    if offsets is None:
        return _in_zone(naive, time, column, faults)
    shift = by_distinct(text(offsets), lambda d: pa.array([_offset_seconds(v) for v in d.to_pylist()], pa.int64()))
    faults.mark(~is_valid(shift), "utc_offset_malformed", time.utc_offset_column)
    return pc.multiply(pc.subtract(naive.cast(pa.int64()), shift), _SECOND)


def _by_written_back(values: pa.StringArray, form: str) -> pa.TimestampArray:
    """Times as strptime reads them, which takes white space, short fields and the 31st of April, too; so each is written back."""
    naive = pc.strptime(values, format=form, unit="s", error_is_null=True)
    is_written_so = pc.fill_null(pc.equal(pc.strftime(naive, format=form), values), False)
    return pc.if_else(is_written_so, naive, pa.scalar(None, naive.type))


@dataclass(frozen=True)
class _Layout:
    """Where the digits of a time stand that has a place for each, by strptime's directive, and the octets between them."""

    digits: Mapping[str, range]
    between: Mapping[int, int]


@lru_cache
def _layout_of(form: str) -> _Layout | None:
    """The layout of a format of whole days that has digits only; None of another."""
    if not re.fullmatch("(%.|[^%])*", form):
        return None
    digits, between, at = {}, {}, 0
    for directive, written in re.findall(r"%(.)|([^%])", form):
        if directive in _WIDTHS and directive not in digits:
            digits[directive] = range(at, at + _WIDTHS[directive])
            at += _WIDTHS[directive]
        elif (written or directive).isascii() and directive in ("", "%"):
            between[at] = ord(written or directive)
            at += 1
        else:
            return None
    return _Layout(digits, between) if {"Y", "m", "d"} <= {*digits} else None


def _of_digits(values: pa.StringArray, layout: _Layout) -> pa.TimestampArray:
    """Times of a layout; null if one is not written so. Strptime and a look at how it was written take five times as long."""
    width = len(layout.between) + sum(map(len, layout.digits.values()))
    octets, bounds = octets_and_offsets(values)
    rows = np.flatnonzero(np.diff(bounds) == width)
    if len(rows) == len(values):
        written = octets[bounds[0] : bounds[-1]].reshape(len(rows), width)
    else:
        written = octets[bounds[rows][:, None] + np.arange(width)]
    places = np.ascontiguousarray(written.T)
    is_sound = np.ones(len(rows), bool)
    for at, octet in layout.between.items():
        is_sound &= places[at] == octet
    numbers = dict.fromkeys(_WIDTHS, np.zeros(len(rows), np.int32))
    for directive, where in layout.digits.items():
        number = np.zeros(len(rows), np.int32)
        for digit in places[where.start : where.stop] - np.uint8(ord("0")):
            is_sound &= digit <= 9
            number = number * 10 + digit
        numbers[directive] = number
    for directive, highest in _HIGHEST.items():
        is_sound &= numbers[directive] <= highest
    month = numbers["m"] - 1
    is_sound &= (month >= 0) & (month < 12)
    month = np.where(is_sound, numbers["Y"] * 12 + month, 0)
    first_days = _first_days()
    day = first_days[month] + numbers["d"] - 1
    is_sound &= (numbers["d"] > 0) & (day < first_days[month + 1])
    of_day = (numbers["H"] * 60 + numbers["M"]) * 60 + numbers["S"]
    seconds, is_read = np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    seconds[rows], is_read[rows] = day.astype(np.int64) * 86_400 + of_day, is_sound
    return pa.array(seconds, mask=~is_read).cast(pa.timestamp("s"))


@lru_cache(1)
def _first_days() -> npt.NDArray[np.int32]:
    """The first day of each month of the years that four digits write, and of the month after them, in days since 1970."""
    return np.arange("0000-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int32)


def _offset_seconds(value: str) -> int | None:
    match = _OFFSET.fullmatch(value)
    if not match:
        return None
    seconds = (int(match[2]) * 60 + int(match[3])) * 60
    return -seconds if match[1] == "-" else seconds


def _in_zone(naive: pa.Array, time: Time, column: str, faults: Faults) -> pa.Array:
    """UTC of local times; an hour that comes twice is read as the source says, one that never comes is marked."""
    read = {
        choice: pc.assume_timezone(naive, time.zone, ambiguous=choice, nonexistent=choice).cast(pa.int64())
        for choice in ("earliest", "latest")
    }
    differs = pc.fill_null(pc.not_equal(read["earliest"], read["latest"]), False)
    if pc.any(differs).as_py():
        back = read["latest"].cast(pa.timestamp("s")).cast(pa.timestamp("s", "UTC"))
        never = pc.and_(differs, pc.not_equal(pc.local_timestamp(back.cast(pa.timestamp("s", time.zone))), naive))
        faults.mark(pc.fill_null(never, False).to_numpy(zero_copy_only=False), "time_does_not_exist", column)
        if time.ambiguous == "reject":
            faults.mark(differs.to_numpy(zero_copy_only=False), "time_ambiguous", column)
    chosen = read["latest" if time.ambiguous == "latest" else "earliest"]
    return pc.multiply(chosen, _SECOND)


def _native(values: pa.Array, time: Time, column: str, faults: Faults) -> pa.Array:
    """A column that is a time already: an instant if it has a zone, else local time of the declared zone."""
    if values.type.tz is not None:
        return values.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    if time.zone is None:
        return pa.nulls(len(values), pa.int64())
    return _in_zone(values.cast(pa.timestamp("s"), safe=False), time, column, faults)


def column_arrays(batch: pa.RecordBatch) -> dict[str, Any]:
    """The columns of a batch by name."""
    return {name: batch.column(index) for index, name in enumerate(batch.schema.names)}


def written_instants(values: pa.Array, column: str, zone: str, ticks_per_s: int, faults: Faults) -> tuple[Integers, Mask]:
    """Instants as network elements write them, in microseconds UTC, and which could be read; empty ones are not marked.

    Either digits (ticks since 1970), ISO 8601 with an offset or without (a clock of the zone), or a text with the zone's name, as
    FreeRADIUS writes Event-Timestamp (``Oct 31 2026 23:05:00 CET``) or the header of a packet (``Sat Oct 31 23:05:00 2026``). A
    local time without a zone that comes twice is marked ``time_ambiguous``: which one it is cannot be known.
    """
    written = text(values)
    numbers, read = np.zeros(len(written), np.int64), np.zeros(len(written), bool)
    given = pc.not_equal(written, "").to_numpy(zero_copy_only=False)
    left = given.copy()
    for pattern, convert in _SHAPES:
        if not left.any():
            break
        rows = np.flatnonzero(left & pc.match_substring_regex(written, pattern).to_numpy(zero_copy_only=False))
        if len(rows):
            own = Faults.none(len(rows))
            found = convert(written.take(pa.array(rows)), _Clock(column, zone, ticks_per_s), own)
            numbers[rows], read[rows] = pc.fill_null(found, 0).to_numpy(zero_copy_only=False), is_valid(found) & own.sound
            _include_at(faults, rows, own)
            left[rows] = False
    faults.mark(given & ~read, "time_malformed", column)
    inside = is_in_calendar(numbers)
    faults.mark(read & ~inside, "time_out_of_range", column)
    return numbers, read & inside


@dataclass(frozen=True)
class _Clock:
    """Of a column: its name, the zone of times without an offset, and the ticks that digits count."""

    column: str
    zone: str
    ticks_per_s: int

    @property
    def time(self) -> Time:
        return Time(format="%Y-%m-%d %H:%M:%S", zone=self.zone, ambiguous="reject")


def _include_at(faults: Faults, rows: Integers, own: Faults) -> None:
    wider = Faults(np.zeros(len(faults.codes), np.int16), own.reasons)
    wider.codes[rows] = own.codes
    faults.include(wider)


def _ticks(values: pa.StringArray, clock: _Clock, _: Faults) -> pa.Array:
    scale = _SECOND // clock.ticks_per_s
    return pa.array(np.minimum(values.cast(pa.int64()).to_numpy(zero_copy_only=False), _LATEST // scale) * scale)


def _with_offset(values: pa.StringArray, _: _Clock, __: Faults) -> pa.Array:
    # PostgreSQL writes whole hours of an offset without minutes.
    return _iso(pc.replace_substring_regex(values, r"([+-]\d\d)$", r"\1:00"))


def _without_offset(values: pa.StringArray, clock: _Clock, faults: Faults) -> pa.Array:
    naive = _naive(values)
    whole = naive.cast(pa.timestamp("s"), safe=False)
    rest = pc.subtract(naive.cast(pa.int64()), pc.multiply(whole.cast(pa.int64()), _SECOND))
    return pc.add(_in_zone(whole, clock.time, clock.column, faults), rest)


def _naive(values: pa.StringArray) -> pa.TimestampArray:
    """Local times of ISO 8601 texts without an offset; null for a day that the calendar lacks."""
    try:
        return values.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        read = [_iso_microseconds(f"{value}+00:00") for value in values.to_pylist()]
        return pa.array(read, pa.int64()).cast(pa.timestamp("us"))


_MONTH_NAMES = pa.array(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])


def _named(values: pa.StringArray, pattern: str) -> tuple[pa.Array, pa.StringArray]:
    """Local times in seconds of texts with English names of months, and the zone each names."""
    parts = pc.extract_regex(values, pattern)
    month = pc.index_in(parts.field("b"), _MONTH_NAMES).to_numpy(zero_copy_only=False)
    year, day, hour, minute, second = (parts.field(name).cast(pa.int64()).to_numpy(zero_copy_only=False) for name in "YdHMS")
    unknown = np.isnan(month.astype(float))
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + np.where(unknown, 0, month).astype(np.int64)
    days = months.astype("datetime64[D]") + (day - 1)
    seconds = days.astype("datetime64[s]").astype(np.int64) + hour * 3600 + minute * 60 + second
    wrong = unknown | (days.astype("datetime64[M]") != months) | (hour > 23) | (minute > 59) | (second > 59)
    zones = parts.field("Z") if "?P<Z>" in pattern else pa.nulls(len(values), pa.string())
    return pa.array(seconds, pa.int64(), mask=wrong), zones


_EVENT = r"^(?P<b>[A-Z][a-z]{2})\s+(?P<d>\d{1,2}) (?P<Y>\d{4}) (?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d) (?P<Z>\S+)$"
_CTIME = r"^[A-Z][a-z]{2} (?P<b>[A-Z][a-z]{2})\s+(?P<d>\d{1,2}) (?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d) (?P<Y>\d{4})$"
_ISO_SHAPE = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?"


def _event_time(values: pa.StringArray, clock: _Clock, faults: Faults) -> pa.Array:
    """The zone's name says which of two equal local times it is; a name that is not the zone's at that time is marked."""
    local, names = _named(values, _EVENT)
    known = _offsets_by_name(clock.zone)
    shift = by_distinct(names, lambda d: pa.array([known.get(name) for name in d.to_pylist()], pa.int64()))
    instants = pc.subtract(local, shift)
    back = pc.local_timestamp(instants.cast(pa.timestamp("s")).cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("s", clock.zone)))
    is_utc = pc.is_in(names, pa.array(["UTC", "GMT"]))
    agrees = pc.or_(is_utc, pc.fill_null(pc.equal(back.cast(pa.int64()), local), False))
    agrees = pc.or_(agrees, local.is_null())
    faults.mark(~agrees.to_numpy(zero_copy_only=False), "time_zone_differs", clock.column)
    return pc.multiply(instants, _SECOND)


def _header_time(values: pa.StringArray, clock: _Clock, faults: Faults) -> pa.Array:
    local, _ = _named(values, _CTIME)
    return _in_zone(local.cast(pa.timestamp("s")), clock.time, clock.column, faults)


@lru_cache(maxsize=8)
def _offsets_by_name(zone: str) -> dict[str, int]:
    """Seconds ahead of UTC by the names that a zone's clock has had since the first year of the calendar."""
    found = {"UTC": 0, "GMT": 0}
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        for month in range(1, 13):
            moment = datetime(year, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone))
            shift = moment.utcoffset()
            found[moment.tzname() or ""] = int(shift.total_seconds()) if shift else 0
    return found


_SHAPES: tuple[tuple[str, Callable[[pa.StringArray, _Clock, Faults], pa.Array]], ...] = (
    (r"^\d{9,15}$", _ticks),
    (_ISO_SHAPE + r"(Z|[+-]\d\d(:?\d\d)?)$", _with_offset),
    (_ISO_SHAPE + "$", _without_offset),
    (_EVENT, _event_time),
    (_CTIME, _header_time),
)
