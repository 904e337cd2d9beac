"""What a source file may say: an unknown, missing or contradictory setting is refused with the file and the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.source import CounterSource, SourceError, SubscriptionSource, UsageSource, read_source, read_sources, zone

SHIPPED = Path(__file__).parents[2] / "schemas" / "sources"
PIPE = (SHIPPED / "pgw_pipe.toml").read_text(encoding="utf-8")
FIXED = (SHIPPED / "fixed_deltas.toml").read_text(encoding="utf-8")
PARQUET = (SHIPPED / "pgw_flattened.toml").read_text(encoding="utf-8")
RADIUS = (SHIPPED / "bng_radius.toml").read_text(encoding="utf-8")
SAMIS = (SHIPPED / "cable_samis.toml").read_text(encoding="utf-8")
EXPORT = (SHIPPED / "subscriptions.toml").read_text(encoding="utf-8")


def source_of(folder: Path, text: str | bytes) -> Any:
    path = folder / "gateway.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(path)


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not once in the source this test changes"
    return text.replace(old, new)


def refusal(folder: Path, text: str | bytes) -> str:
    """What is said of a source that cannot be used, after the path of its file."""
    with pytest.raises(SourceError) as raised:
        source_of(folder, text)
    said = str(raised.value)
    assert said.startswith(f"{folder}/gateway.toml: ")
    return said.removeprefix(f"{folder}/gateway.toml: ")


# The shipped sources


def test_the_shipped_sources_load_by_name():
    sources = read_sources(SHIPPED)

    assert {name: (type(source), source.format) for name, source in sources.items()} == {
        "bng_radius": (CounterSource, "radius-detail"),
        "cable_samis": (CounterSource, "samis-xml"),
        "fixed_deltas": (UsageSource, "delimited"),
        "pgw_flattened": (UsageSource, "parquet"),
        "pgw_pipe": (UsageSource, "delimited"),
        "pgw_ts32297": (UsageSource, "ts32297"),
        "chf_ts32297": (UsageSource, "ts32297"),
        "subscriptions": (SubscriptionSource, "delimited"),
    }
    assert all(source.name == name for name, source in sources.items())


def test_the_flattened_gateway_reads_up_and_down_from_two_columns():
    # A public job for this layout sums the downlink column twice (reference/formats.md §5b).
    volume = read_source(SHIPPED / "pgw_flattened.toml").volume  # type: ignore[union-attr]

    assert (volume.up, volume.down) == ("l_datavolumefbcuplink", "l_datavolumefbcdownlink")


def test_the_pipe_layout_has_25_fields_and_download_before_upload():
    source = read_source(SHIPPED / "pgw_pipe.toml")

    assert isinstance(source, UsageSource)
    assert source.delimited is not None
    columns = source.delimited.columns
    assert len(columns) == len(set(columns)) == 25
    assert (columns.index(source.volume.down), columns.index(source.volume.up)) == (8, 9)


def test_the_whitelist_is_what_the_settings_name_and_nothing_else():
    whitelists = {name: set(source.whitelist) for name, source in read_sources(SHIPPED).items()}

    assert whitelists["fixed_deltas"] == {"line_id", "interval_start", "interval_end", "octets_up", "octets_down"}
    assert whitelists["pgw_flattened"] == {
        "mdn",
        "l_timeoflastusage",
        "l_datavolumefbcuplink",
        "l_datavolumefbcdownlink",
        "accesspointnameni",
    }
    assert whitelists["pgw_pipe"] == {
        "RecordType", "IMSI", "EventTimestamp", "EventDuration", "DownloadVol", "UploadVol", "Apn", "UTCoffset",
        "CallIdentification",
    }  # fmt: skip


def test_a_column_is_read_once_however_often_it_is_named():
    whitelist = read_source(SHIPPED / "pgw_pipe.toml").whitelist

    assert len(whitelist) == len(set(whitelist))


def test_a_source_is_named_after_its_file(tmp_path):
    assert source_of(tmp_path, FIXED).name == "gateway"


def test_a_folder_without_sources_is_refused(tmp_path):
    with pytest.raises(SourceError, match=rf"^{tmp_path}: holds no source"):
        read_sources(tmp_path)


def test_one_source_that_cannot_be_used_refuses_the_folder_and_is_named(tmp_path):
    (tmp_path / "a.toml").write_text(FIXED, encoding="utf-8")
    (tmp_path / "b.toml").write_text(changed(FIXED, 'network = "fixed"', 'network = "both"'), encoding="utf-8")

    with pytest.raises(SourceError, match=rf"^{tmp_path}/b\.toml: network: "):
        read_sources(tmp_path)


# Refusals

PIPE_ZONE = 'utc_offset_column = "UTCoffset"'

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "not TOML": (changed(FIXED, 'kind = "usage"', "kind = "), "Invalid value"),
    "no kind": (changed(FIXED, 'kind = "usage"\n', ""), "kind is None, must be one of usage, counters, subscriptions"),
    "counters without their direction": (changed(RADIUS, 'input_octets = "up"\n', ""), "radius-detail needs input_octets"),
    "a direction of the other format": (changed(SAMIS, "service_direction_1", "input_octets"), "needs service_direction_1"),
    "counters in a format of volumes": (changed(RADIUS, '"radius-detail"', '"parquet"'), "parquet has no counters"),
    "volumes in a format of counters": (changed(PARQUET, '"parquet"', '"radius-detail"'), 'kind must be "counters"'),
    "unknown kind": (changed(FIXED, 'kind = "usage"', 'kind = "calls"'), "kind is 'calls', must be one of"),
    "unknown setting": (changed(FIXED, "[volume]", "[volume]\nunit = 1"), "volume.unit: Extra inputs"),
    "missing setting": (changed(FIXED, 'network = "fixed"\n', ""), "network: Field required"),
    "missing table": (changed(FIXED, '[roaming]\nconstant = "home"\n', ""), "roaming: Field required"),
    "unknown network": (changed(FIXED, 'network = "fixed"', 'network = "satellite"'), "network: "),
    "unknown format": (changed(FIXED, 'format = "delimited"', 'format = "xml"'), "format: "),
    "unknown basis": (changed(FIXED, '"up_and_down"', '"up_only"'), "volume_counted: "),
    "layout without format": (changed(FIXED, 'format = "delimited"', 'format = "parquet"'), "[delimited] go together"),
    "format without layout": (changed(PARQUET, 'format = "parquet"', 'format = "delimited"'), "[delimited] go together"),
    "what a changed file means": (changed(FIXED, 'on_changed_file = "refuse"', ""), "files.on_changed_file: Field required"),
    "sequence without its group": (changed(FIXED, "?P<sequence>", ""), "files.sequence has no group named sequence"),
    "negative rest": (changed(FIXED, "[delimited]", "unchanged_for_seconds = -1\n[delimited]"), "files.unchanged_for_seconds: "),
    "long delimiter": (changed(FIXED, 'delimiter = ","', 'delimiter = ";;"'), "delimited.delimiter: "),
    "empty delimiter": (changed(FIXED, 'delimiter = ","', 'delimiter = ""'), "delimited.delimiter: "),
    "unknown encoding": (changed(FIXED, "header = true", 'header = true\nencoding = "utf-16"'), "delimited.encoding: "),
    "no header and no columns": (changed(FIXED, "header = true", "header = false"), "delimited.columns is needed"),
    "header and columns": (changed(FIXED, "header = true", 'header = true\ncolumns = ["a"]'), "delimited.columns is needed"),
    "no identifier": (changed(FIXED, '[[identifier]]\ntype = "line_id"\ncolumn = "line_id"\n', ""), "identifier: Field required"),
    "unknown identifier": (changed(FIXED, 'type = "line_id"', 'type = "imei"'), "identifier.0.type: "),
    "country code with a plus": (changed(PARQUET, 'country_code = "33"', 'country_code = "+33"'), "identifiers.country_code: "),
    "local time without a clock": (changed(PIPE, PIPE_ZONE, ""), "time: a local format needs zone or utc_offset_column"),
    "local time with two clocks": (
        changed(PIPE, PIPE_ZONE, PIPE_ZONE + '\nzone = "Europe/Paris"\nambiguous = "latest"'),
        "time: a local format needs zone or utc_offset_column, not both",
    ),
    "zone, but not what an hour twice means": (changed(PARQUET, 'ambiguous = "earliest"', ""), "zone and ambiguous go together"),
    "unknown zone": (changed(PARQUET, "Europe/Paris", "Europe/Lutetia"), "time.zone: Value error, Europe/Lutetia is not an IANA"),
    "instants with a clock": (
        changed(FIXED, 'format = "iso8601"', 'format = "iso8601"\nzone = "Europe/Paris"\nambiguous = "latest"'),
        "time: iso8601 carries its own clock",
    ),
    "start only": (changed(FIXED, 'end = "interval_end"', ""), "time: give end, start and end"),
    "start, end and duration": (
        changed(FIXED, 'end = "interval_end"', 'end = "interval_end"\nduration_s = "octets_up"'),
        "time: give end, start and end",
    ),
    "one column for both directions": (changed(FIXED, "octets_down", "octets_up"), "volume.up and volume.down are the same"),
    "unit of nothing": (changed(FIXED, "octets_per_unit = 1", "octets_per_unit = 0"), "volume.octets_per_unit: "),
    "empty key": (changed(FIXED, 'key = ["line_id", "interval_start", "interval_end"]', "key = []"), "key is empty"),
    "no key": (changed(PARQUET, 'key = "none"\n', ""), "key: Field required"),
    "neither constant nor column": (changed(FIXED, 'constant = "home"', ""), "roaming: Value error, give either constant"),
    "constant and column": (changed(FIXED, 'constant = "home"', 'constant = "home"\ncolumn = "zone"'), "give either constant"),
    "column without values": (changed(FIXED, 'constant = "home"', 'column = "zone"'), "give either constant"),
    "scope without a test": (changed(PARQUET, 'equals = ["ims"]', ""), "out_of_scope.0: Value error, give one of equals"),
    "scope with two tests": (changed(PARQUET, 'equals = ["ims"]', 'equals = ["ims"]\nstarts_with = ["i"]'), "give one of equals"),
    "scope without a name": (changed(PARQUET, 'reason = "ims_apn"', 'reason = "IMS APN"'), "out_of_scope.0.reason: "),
    "a column that is not in the layout": (changed(PIPE, 'up = "UploadVol"', 'up = "Up"'), "not among delimited.columns: Up"),
    "a key that is not in the layout": (
        changed(PIPE, 'key = ["RecordType", "CallIdentification"]', 'key = ["CallId"]'),
        "not among delimited.columns: CallId",
    ),
    "an export with a column of offsets": (
        changed(EXPORT, 'format = "iso8601"', 'format = "%Y%m%d"\nutc_offset_column = "offset"'),
        "time.utc_offset_column: an export has several times",
    ),
    "an export with a column nobody knows": (EXPORT + '\n[columns]\nshoe_size = "size"\n', "columns.shoe_size: Extra inputs"),
}  # fmt: skip

LEFT: dict[str, str | bytes] = {
    "a pattern that is no regular expression": changed(FIXED, r"(?P<sequence>\d+)", r"(?P<sequence>\d+"),
    "a file that is not UTF-8": FIXED.replace("Fixed lines", "Lignes dédiées").encode("iso-8859-1"),
    "a kind that is a list": changed(FIXED, 'kind = "usage"', 'kind = ["usage"]'),
    "a name that is not the file's": changed(FIXED, "description =", 'name = "other"\ndescription ='),
    "the quote as the delimiter": changed(FIXED, 'delimiter = ","', "delimiter = '\"'"),
    "a line end as the delimiter": changed(FIXED, 'delimiter = ","', 'delimiter = "\\n"'),
    "a delimiter of two octets": changed(FIXED, 'delimiter = ","', 'delimiter = "§"'),
    "a column named twice": changed(PIPE, '"NumberA"', '"IMSI"'),
    "a time pattern with an offset and a zone": changed(PARQUET, "%Y%m%d%H%M%S", "%Y%m%d%H%M%S%z"),
    "a time pattern Arrow cannot read": changed(PARQUET, "%Y%m%d%H%M%S", "%Y%m%d%H%M%S.%f"),
    "a pattern Arrow cannot read": changed(FIXED, "[time]", '[identifiers]\nline_id_pattern = "^(?=L)."\n[time]'),
    "a roaming zone nobody knows": changed(PIPE, 'RGP = "roaming"', 'RGP = "romaing"'),
    "an estimate that is neither true nor false": changed(
        PIPE, "[volume]", '[estimated]\ncolumn = "Source"\nvalues = { E = "yes" }\n\n[volume]'
    ),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_source_that_cannot_be_used_is_refused_with_its_file_and_setting(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT.keys())
def test_what_would_only_fail_while_a_file_is_read_is_refused_before(tmp_path, text):
    assert refusal(tmp_path, text)


def test_every_fault_of_a_source_is_said_at_once(tmp_path):
    said = refusal(tmp_path, changed(changed(FIXED, 'network = "fixed"', 'network = "x"'), "octets_per_unit = 1", ""))

    assert "network: " in said
    assert "volume.octets_per_unit: " in said


# What a source may say


@pytest.mark.parametrize(
    "times",
    [
        'end = "interval_end"',
        'start = "interval_start"\nend = "interval_end"',
        'start = "interval_start"\nduration_s = "seconds"',
        'end = "interval_end"\nduration_s = "seconds"',
    ],
)
def test_an_interval_is_given_by_its_end_or_by_two_of_start_end_and_duration(tmp_path, times):
    source = source_of(tmp_path, changed(FIXED, 'start = "interval_start"\nend = "interval_end"', times))

    assert all(line.split('"')[1] in source.whitelist for line in times.splitlines())


def test_an_export_may_name_its_columns_otherwise(tmp_path):
    source = source_of(tmp_path, EXPORT + '\n[columns]\nsubscription_id = "contract"\n')

    assert "contract" in source.whitelist
    assert "subscription_id" not in source.whitelist


def test_a_zone_is_an_iana_name():
    assert zone("Europe/Paris") == ZoneInfo("Europe/Paris")
    with pytest.raises(ValueError, match=r"^\.\./etc/passwd is not an IANA time zone$"):
        zone("../etc/passwd")


def test_serving_and_packet_gateway_records_of_two_sources_are_refused_since_they_measure_the_same_octets(tmp_path):
    text = (SHIPPED / "pgw_ts32297.toml").read_text(encoding="utf-8")
    (tmp_path / "pgw.toml").write_text(text, encoding="utf-8")
    (tmp_path / "sgw.toml").write_text(text.replace('record_types = ["pgw"]', 'record_types = ["sgw"]'), encoding="utf-8")

    with pytest.raises(SourceError, match=r"sgw counts sgw records and pgw pgw records, which measure the same octets$"):
        read_sources(tmp_path)
