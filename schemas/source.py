"""What a mediation source is: how its files are named, read and understood.

One TOML file per source in ``schemas/sources/`` (or the folder of ``FOOTPRINT_SOURCES``); its name is the name of the source and
of its folder under the landing folder. An unknown or missing setting is refused with the file and the setting.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

IdentifierType = Literal["imsi", "msisdn", "line_id", "mac"]
Network = Literal["fixed", "mobile"]
VolumeBasis = Literal["up_and_down", "down_only"]


ROAMING_ZONES = ("home", "roaming")
ESTIMATES = ("true", "false")


class SourceError(ValueError):
    """A source file cannot be used; the message names the file and the setting."""


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text} is not a regular expression: {error}") from None
    return text


def _arrow_expression(text: str) -> str:
    try:
        pc.match_substring_regex(pa.array([""]), text)
    except pa.ArrowInvalid:
        raise ValueError(f"{text} is not a regular expression that Arrow (RE2) reads") from None
    return text


def _local_time_format(text: str) -> str:
    unknown = set(re.findall(r"%.", text)) - {f"%{letter}" for letter in "YmdHMSyjbB%"}
    if unknown:
        raise ValueError(f"{text}: {', '.join(sorted(unknown))} cannot be read; fractions and offsets have formats of their own")
    return text


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name} is not an IANA time zone")
    return name


Pattern = Annotated[str, AfterValidator(_regular_expression)]
Zone = Annotated[str, AfterValidator(_time_zone)]
ArrowPattern = Annotated[str, AfterValidator(_arrow_expression)]
Character = Annotated[str, Field(pattern=r"^[\x20-\x7e\t]$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Files(_Settings):
    """How the source names its files and shows that one is finished.

    ``sequence`` is a regular expression on the file name with the group ``sequence`` (a number that grows). With a group
    ``series`` too, the numbers of a series have no gaps, and a gap is reported.
    A file is finished when its name has none of ``unfinished_suffixes``, its ``done_marker`` (a suffix) exists if one is set, and
    it has not changed for ``unchanged_for_seconds``.
    """

    pattern: str
    sequence: Pattern | None = None
    on_changed_file: Literal["refuse", "supersede"]
    unfinished_suffixes: tuple[str, ...] = (".tmp", ".part", ".filepart")
    done_marker: str | None = None
    unchanged_for_seconds: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sequence_is_captured(self) -> Self:
        if self.sequence and "sequence" not in re.compile(self.sequence).groupindex:
            raise ValueError("files.sequence has no group named sequence")
        return self


class Delimited(_Settings):
    """Layout of delimited text. ``columns`` names the fields of a file without a header."""

    delimiter: Character
    quote: Character | None = None
    encoding: Literal["utf-8", "iso-8859-1"] = "utf-8"
    header: bool
    columns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _columns_are_known(self) -> Self:
        if self.header == bool(self.columns):
            raise ValueError("delimited.columns is needed exactly when delimited.header is false")
        if self.delimiter == self.quote:
            raise ValueError("delimited.delimiter and delimited.quote are the same character")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("delimited.columns names a column twice")
        return self


CHARGING_COLUMNS = (
    *("recordType", "servedIMSI", "servedMSISDN", "accessPointNameNI", "nodeID", "gatewayAddress"),
    *("servingNodePLMNIdentifier", "chargingID", "chargingSessionIdentifier", "recordSequenceNumber", "localSequenceNumber"),
    *("recordOpeningTime", "duration", "causeForRecClosing", "userRoamerInOut"),
    *("intervalOpened", "intervalClosed", "uplinkOctets", "downlinkOctets", "ratingGroup", "rATType"),
)
"""Columns of the reader of charging records: names of TS 32.298, and those of the interval."""

RecordType = Literal["pgw", "ggsn", "egsn", "chf", "sgw", "sgsn"]
_SERVING = {"sgw", "sgsn"}
"""Records of the serving node measure the octets that the gateway's records measure too."""


class Charging(_Settings):
    """What counts in the operator's 3GPP charging records (TS 32.298), where operators differ.

    ``record_types``: records that count; others are out of scope. ``volumes``: whether service data counts where a record has
    it, or traffic volumes only. ``reporting_level``: which containers of service data count where an operator reports a rating
    group and its services: ``both`` if they never overlap. ``total_without_directions``: what the total of a CHF container
    without its directions is. ``short_timestamp_zone``: the clock of time stamps without an offset (6 octets).
    """

    record_types: tuple[RecordType, ...] = Field(min_length=1)
    volumes: Literal["service_data_else_traffic_volumes", "traffic_volumes"]
    reporting_level: Literal["rating_group", "service", "both"]
    total_without_directions: Literal["down", "reject"] | None = None
    short_timestamp_zone: Zone | None = None

    @model_validator(mode="after")
    def _nothing_counts_twice(self) -> Self:
        serving = _SERVING & set(self.record_types)
        if serving and serving != set(self.record_types):
            raise ValueError("charging.record_types: records of the serving node and of the gateway measure the same octets")
        if "chf" in self.record_types and self.total_without_directions is None:
            raise ValueError("charging.total_without_directions is needed for chf records")
        return self


class Identifier(_Settings):
    """A column that names who used the data; the first one that is not empty counts."""

    type: IdentifierType
    column: str


class IdentifierRules(_Settings):
    """How identifiers are normalised before they are pseudonymised.

    ``country_code`` turns a national number (one leading 0) into E.164; without it such a number is rejected.
    """

    country_code: Annotated[str, Field(pattern=r"^[1-9]\d{0,2}$")] | None = None
    line_id_pattern: ArrowPattern = r"^[A-Za-z0-9._:/-]{1,64}$"


class Time(_Settings):
    """Which columns say when, and in which clock.

    ``format`` is ``iso8601`` (with an offset in the text), ``epoch_s``, ``epoch_ms`` or a strptime pattern of local time. Local
    time needs ``zone``, and what an hour that comes twice means, or ``utc_offset_column`` (``+HHMM`` or ``+HH:MM``).
    """

    format: Annotated[str, AfterValidator(_local_time_format)]
    zone: Zone | None = None
    ambiguous: Literal["earliest", "latest", "reject"] | None = None
    utc_offset_column: str | None = None
    start: str | None = None
    end: str | None = None
    duration_s: str | None = None

    @property
    def is_local(self) -> bool:
        """The text is a local time, so the clock it was read from must be declared."""
        return self.format not in ("iso8601", "epoch_s", "epoch_ms")

    @model_validator(mode="after")
    def _clock_is_declared(self) -> Self:
        if self.is_local and (self.zone is None) == (self.utc_offset_column is None):
            raise ValueError("time: a local format needs zone or utc_offset_column, not both")
        if (self.zone is None) != (self.ambiguous is None):
            raise ValueError("time: zone and ambiguous go together")
        if not self.is_local and (self.zone or self.utc_offset_column):
            raise ValueError(f"time: {self.format} carries its own clock")
        return self


class Volume(_Settings):
    """Columns of the volume and the unit they are written in."""

    up: str
    down: str
    octets_per_unit: int = Field(ge=1)

    @model_validator(mode="after")
    def _directions_differ(self) -> Self:
        if self.up == self.down:
            raise ValueError("volume.up and volume.down are the same column")
        return self


class Mapped(_Settings):
    """A value taken from a column through a table, or a constant.

    A value the table lacks is ``otherwise``, or the record is rejected; an empty one must be in the table.
    """

    constant: str | None = None
    column: str | None = None
    values: dict[str, str] = {}
    otherwise: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.constant is None) == (self.column is None) or bool(self.values) != bool(self.column):
            raise ValueError("give either constant, or column with values")
        if self.otherwise is not None and not self.column:
            raise ValueError("otherwise goes with column and values")
        return self


class OutOfScope(_Settings):
    """A rule of the source's policy: a record is no subscriber's data if the column is, begins, or does not begin so."""

    reason: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    column: str
    equals: tuple[str, ...] = ()
    starts_with: tuple[str, ...] = ()
    unless_starts_with: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if sum(map(bool, (self.equals, self.starts_with, self.unless_starts_with))) != 1:
            raise ValueError("give one of equals, starts_with, unless_starts_with")
        return self


Format = Literal["delimited", "parquet", "ts32297", "ber", "radius-detail", "radacct", "samis-xml", "ipdr-xdr"]
TEXT_FORMATS = ("delimited", "radacct")
CHARGING_FORMATS = ("ts32297", "ber")
RADIUS_FORMATS = ("radius-detail", "radacct")
SAMIS_FORMATS = ("samis-xml", "ipdr-xdr")
COUNTER_FORMATS = (*RADIUS_FORMATS, *SAMIS_FORMATS)
"""Formats of counters that only grow: RADIUS accounting and DOCSIS SAMIS."""


class _Source(_Settings):
    name: str
    description: str
    format: Format
    files: Files
    delimited: Delimited | None = None
    charging: Charging | None = None
    identifiers: IdentifierRules = IdentifierRules()

    @model_validator(mode="after")
    def _layout_is_given(self) -> Self:
        if (self.format in TEXT_FORMATS) != (self.delimited is not None):
            raise ValueError(f"the formats {' and '.join(TEXT_FORMATS)} and the table [delimited] go together")
        if (self.format in CHARGING_FORMATS) != (self.charging is not None):
            raise ValueError(f"the formats {' and '.join(CHARGING_FORMATS)} go together with the table [charging]")
        return self

    def _missing(self, columns: Sequence[str]) -> Self:
        if self.delimited and self.delimited.columns:
            unknown = [name for name in columns if name not in self.delimited.columns]
            if unknown:
                raise ValueError(f"not among delimited.columns: {', '.join(unknown)}")
        if self.charging:
            unknown = [name for name in columns if name not in CHARGING_COLUMNS]
            if unknown:
                raise ValueError(f"not a column of charging records: {', '.join(unknown)}")
        return self


class NetworkSource(_Source):
    """What a network element measured: whose, on which network, and what of it counts."""

    network: Network
    volume_counted: VolumeBasis
    identifier: tuple[Identifier, ...] = Field(min_length=1)
    access_technology: Mapped | None = None
    roaming: Mapped
    out_of_scope: tuple[OutOfScope, ...] = ()

    @property
    def scope_rules(self) -> tuple[OutOfScope, ...]:
        """The policy: which records are no subscriber's data."""
        return self.out_of_scope

    @property
    def policy_columns(self) -> list[str]:
        """Columns that say whose a record is and whether it counts."""
        mapped = [m.column for m in (self.access_technology, self.roaming) if m]
        names = [identifier.column for identifier in self.identifier] + mapped + [rule.column for rule in self.scope_rules]
        return [name for name in names if name]

    @model_validator(mode="after")
    def _zone_is_known(self) -> Self:
        _require_known("roaming", self.roaming, ROAMING_ZONES)
        return self


class UsageSource(NetworkSource):
    """Usage records: who, when, how many octets up and down."""

    kind: Literal["usage"]
    key: tuple[str, ...] | Literal["none"]
    volume: Volume
    time: Time
    estimated: Mapped | None = None

    @property
    def scope_rules(self) -> tuple[OutOfScope, ...]:
        """The policy, with the records of charging files that do not count."""
        if self.charging is None:
            return self.out_of_scope
        others = OutOfScope(reason="other_record_type", column="recordType", unless_starts_with=self.charging.record_types)
        return (others, *self.out_of_scope)

    @property
    def whitelist(self) -> tuple[str, ...]:
        """Columns that may leave the reader; every other one is dropped at the edge (CPCE L34-1)."""
        time = self.time
        names = [time.start, time.end, time.duration_s, time.utc_offset_column, self.volume.up, self.volume.down]
        names += [*self.policy_columns, self.estimated.column if self.estimated else None]
        names += self.key if self.key != "none" else ()
        return tuple(dict.fromkeys(name for name in names if name))

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        given = (self.time.start, self.time.end, self.time.duration_s)
        if not (self.time.end and not self.time.duration_s) and sum(map(bool, given)) != 2:
            raise ValueError("time: give end, start and end, start and duration_s, or end and duration_s")
        _require_known("estimated", self.estimated, ESTIMATES)
        if self.format in COUNTER_FORMATS:
            raise ValueError(f'{self.format} has counters that only grow: kind must be "counters"')
        if self.key != "none" and not self.key:
            raise ValueError('key is empty: name its columns, or say key = "none"')
        return self._missing(self.whitelist)


def _require_known(setting: str, mapping: Mapped | None, allowed: Sequence[str]) -> None:
    unknown = {mapping.constant, mapping.otherwise, *mapping.values.values()} - {None, *allowed} if mapping else set()
    if unknown:
        raise ValueError(f"{setting}: {', '.join(map(str, unknown))} is none of {', '.join(allowed)}")


FASTEST_OCTETS_PER_S: dict[Network, int] = {"mobile": 1_250_000_000, "fixed": 12_500_000_000}
"""What an access carries at most in a second: 10 Gbit/s over the air, 100 Gbit/s on a line. More is a broken record."""


class Counters(_Settings):
    """How counters that only grow are read, where network elements differ.

    ``input_octets`` (RADIUS): whether Acct-Input-Octets, what the port received (RFC 2866 §5.3), is the subscriber's ``up`` or
    ``down``: many elements write it the other way round. ``service_direction_1`` (SAMIS): what ServiceDirection 1 is.
    ``zone``: the clock of times that are written without an offset. ``silent_after_s``: a session without a reading for so long
    has ended without a stop; two or three intervals between readings. ``fastest_octets_per_s``: what a line carries at most,
    both directions together; by it, and by ``largest_packet_octets``, it is known whether a 32-bit counter can have wrapped
    unseen.
    """

    input_octets: Literal["up", "down"] | None = None
    service_direction_1: Literal["up", "down"] | None = None
    zone: Zone
    silent_after_s: int = Field(default=10_800, ge=60, le=7 * 86_400)
    fastest_octets_per_s: int | None = Field(default=None, ge=1_000, le=max(FASTEST_OCTETS_PER_S.values()))
    largest_packet_octets: int = Field(default=1_500, ge=576, le=65_535)


class CounterSource(NetworkSource):
    """Records of counters that only grow: who, when, and what the counters of a session said."""

    kind: Literal["counters"]
    counters: Counters

    @property
    def fastest_octets_per_s(self) -> int:
        """What a line of the source carries at most in a second, both directions together."""
        return self.counters.fastest_octets_per_s or FASTEST_OCTETS_PER_S[self.network]

    @property
    def whitelist(self) -> tuple[str, ...]:
        """Columns that may leave the reader."""
        return tuple(dict.fromkeys([*COUNTER_COLUMNS[self.format], *self.policy_columns]))

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.format not in COUNTER_FORMATS:
            raise ValueError(f"{self.format} has no counters: formats of counters are {', '.join(COUNTER_FORMATS)}")
        is_radius = self.format in RADIUS_FORMATS
        given = {"input_octets": self.counters.input_octets, "service_direction_1": self.counters.service_direction_1}
        needed, other = ("input_octets", "service_direction_1") if is_radius else ("service_direction_1", "input_octets")
        if given[needed] is None or given[other] is not None:
            raise ValueError(f"counters: {self.format} needs {needed}, and no {other}")
        return self._missing(self.whitelist)


RADIUS_COLUMNS = (
    *("Acct-Status-Type", "Acct-Session-Id", "Acct-Session-Time", "Acct-Delay-Time", "Event-Timestamp", "Timestamp"),
    *("Packet-Header-Time", "NAS-Identifier", "NAS-IP-Address", "NAS-IPv6-Address", "NAS-Port-Id", "NAS-Port"),
    *("Acct-Input-Octets", "Acct-Output-Octets", "Acct-Input-Gigawords", "Acct-Output-Gigawords"),
    *("Acct-Input-Packets", "Acct-Output-Packets"),
)
"""Attributes of an accounting packet that tell its counters (RFC 2866 §5, RFC 2869 §5), and the times FreeRADIUS writes."""
RADACCT_COLUMNS = (
    *("acctsessionid", "nasipaddress", "nasportid", "acctstarttime", "acctupdatetime", "acctstoptime", "acctsessiontime"),
    *("acctinputoctets", "acctoutputoctets"),
)
"""Columns of FreeRADIUS's table radacct; its octets are whole (Gigawords included)."""
SAMIS_COLUMNS = (
    *("CmtsHostName", "CmtsSysUpTime", "RecType", "RecCreationTime", "ServiceIdentifier", "ServiceDirection"),
    *("ServiceOctetsPassed", "ServicePktsPassed", "ServiceTimeCreated", "ServiceTimeActive"),
)
"""Elements of a SAMIS record that tell its counters (DOCSIS OSSI, SAMIS-TYPE-1)."""
COUNTER_COLUMNS = {"radius-detail": RADIUS_COLUMNS, "radacct": RADACCT_COLUMNS} | dict.fromkeys(SAMIS_FORMATS, SAMIS_COLUMNS)


class SubscriptionColumns(_Settings):
    """Columns of the subscription export, one row per identifier assignment; intervals are half open."""

    subscription_id: str = "subscription_id"
    network: str = "network"
    access_technology: str = "access_technology"
    identifier_type: str = "identifier_type"
    identifier: str = "identifier"
    assigned_from: str = "assigned_from"
    assigned_to: str = "assigned_to"
    active_from: str = "active_from"
    active_to: str = "active_to"
    segment: str = "segment"
    brand: str = "brand"


class SubscriptionSource(_Source):
    """Subscriptions: who held which identifier, from when until when."""

    kind: Literal["subscriptions"]
    time: Time
    columns: SubscriptionColumns = SubscriptionColumns()

    @property
    def whitelist(self) -> tuple[str, ...]:
        """Columns that may leave the reader."""
        return tuple(self.columns.model_dump().values())

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.time.utc_offset_column:
            raise ValueError("time.utc_offset_column: an export has several times, give zone instead")
        if self.format in COUNTER_FORMATS:
            raise ValueError(f"{self.format} has no subscriptions")
        return self._missing(self.whitelist)


Source = UsageSource | CounterSource | SubscriptionSource


def read_source(path: Path) -> Source:
    """The source declared in a TOML file. Raises SourceError, naming file and setting."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        kinds: dict[str, type[Source]] = {"usage": UsageSource, "counters": CounterSource, "subscriptions": SubscriptionSource}
        kind = settings.get("kind")
        if not isinstance(kind, str) or kind not in kinds:
            raise SourceError(f"{path}: kind is {kind!r}, must be one of {', '.join(kinds)}")
        if "name" in settings:
            raise SourceError(f"{path}: name is not a setting: the file's name is the source's")
        return kinds[kind].model_validate({"name": path.stem, **settings})
    except UnicodeDecodeError:
        raise SourceError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{path}: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'source'}: {e['msg']}" for e in error.errors())
        raise SourceError(f"{path}: {faults}") from None


def read_sources(folder: Path) -> dict[str, Source]:
    """Every source of a folder by name. Raises SourceError if there is none or one cannot be used."""
    sources = {path.stem: read_source(path) for path in sorted(folder.glob("*.toml"))}
    if not sources:
        raise SourceError(f"{folder}: holds no source (*.toml)")
    by_type = {
        record_type: name
        for name, source in sources.items()
        for record_type in (source.charging.record_types if source.charging else ())
    }
    if {"sgw", "pgw"} <= set(by_type):
        raise SourceError(
            f"{folder}: {by_type['sgw']} counts sgw records and {by_type['pgw']} pgw records, which measure the same octets"
        )
    return sources


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises ValueError."""
    return ZoneInfo(_time_zone(name))
