"""Every finished file is registered once, under what it is: new, a duplicate, superseding or refused; gaps are said."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.accept import due
from jobs.batches import Batch
from jobs.land import (
    Delivery,
    _deliveries,
    _files,
    _Registry,
    _sequence,
    contents_that_count,
    place_of,
    sequence_gaps,
)
from jobs.run import PROJECT, Refused
from schemas.source import Source, UsageSource
from tests.readers.ber import FileForm, file_of

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DECLARED: dict[str, Any] = {
    "description": "made up",
    "kind": "usage",
    "network": "fixed",
    "format": "delimited",
    "volume_counted": "up_and_down",
    "key": "none",
    "delimited": {"delimiter": ",", "header": True},
    "identifier": [{"type": "line_id", "column": "line"}],
    "time": {"format": "iso8601", "end": "end"},
    "volume": {"up": "up", "down": "down", "octets_per_unit": 1},
    "roaming": {"constant": "home"},
}


def source(name: str = "fixed", **files: Any) -> Source:
    rules = {"pattern": "*.csv*", "sequence": r"^(?P<series>[a-z]+)_(?P<sequence>\d+)", "on_changed_file": "refuse"} | files
    return UsageSource.model_validate(DECLARED | {"name": name, "files": rules})


REFUSING, SUPERSEDING = {"fixed": source()}, {"fixed": source(on_changed_file="supersede")}


def put(landing: Path, name: str, content: str = "x", age_seconds: float = 60) -> Path:
    path = landing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    moment = (NOW - timedelta(seconds=age_seconds)).timestamp()
    os.utime(path, (moment, moment))
    return path


def finished(landing: Path, **files: Any) -> list[str]:
    return [file.file_name for file in _files(str(landing), {"fixed": source(**files)}, NOW)]


class Lake:
    """A landing folder that is registered again and again."""

    def __init__(self, landing: Path, sources: dict[str, Source]) -> None:
        self.landing, self.sources, self.known = landing, sources, list[Delivery]()
        self.age = 10_000

    def land(self, **contents: str) -> list[tuple[str, str, int | None]]:
        """Write files, then register: name, status and replaced delivery of what is new, by source fixed and .csv."""
        for name, content in contents.items():
            self.age -= 1  # a rewritten file has another time
            put(self.landing / "fixed", f"{name}.csv", content, self.age)
        files = _files(str(self.landing), self.sources, NOW)
        new = list(_deliveries(files, _Registry(self.known), self.sources, NOW))
        self.known += new
        return [(d.file_name.removesuffix(".csv"), d.status, d.replaces_file_number) for d in new]


# Which files are finished


def test_files_are_found_in_the_folder_of_their_source_and_below_in_the_order_of_their_names(tmp_path):
    for name in ("fixed/b.csv", "fixed/a.csv", "fixed/2026/10/c.csv"):
        put(tmp_path, name)

    assert finished(tmp_path) == ["2026/10/c.csv", "a.csv", "b.csv"]


def test_a_file_is_told_by_its_pattern_to_the_letter(tmp_path):
    for name in ("fixed/a.csv", "fixed/a.csv.gz", "fixed/a.CSV", "fixed/a.txt", "fixed/README"):
        put(tmp_path, name)

    assert finished(tmp_path) == ["a.csv", "a.csv.gz"]


@pytest.mark.parametrize("suffix", [".tmp", ".part", ".filepart"])
def test_a_file_that_is_still_being_written_is_told_by_its_suffix(tmp_path, suffix):
    put(tmp_path, f"fixed/a.csv{suffix}")

    assert finished(tmp_path) == []


def test_a_file_with_a_done_marker_is_finished_when_the_marker_is_there(tmp_path):
    for name in ("fixed/a.csv", "fixed/b.csv", "fixed/b.csv.done", "fixed/below/c.csv", "fixed/c.csv.done"):
        put(tmp_path, name)

    assert finished(tmp_path, done_marker=".done") == ["b.csv"]


def test_a_file_must_rest_as_long_as_its_source_says(tmp_path):
    put(tmp_path, "fixed/young.csv", age_seconds=299)
    put(tmp_path, "fixed/old.csv", age_seconds=300)

    assert finished(tmp_path, unchanged_for_seconds=300) == ["old.csv"]


def test_a_file_with_a_done_marker_must_rest_too(tmp_path):
    for name, age in (("young.csv", 1), ("old.csv", 400), ("young.csv.done", 1), ("old.csv.done", 1)):
        put(tmp_path / "fixed", name, age_seconds=age)

    assert finished(tmp_path, done_marker=".done", unchanged_for_seconds=300) == ["old.csv"]


def test_a_file_from_a_clock_that_is_ahead_is_not_overlooked(tmp_path):
    put(tmp_path, "fixed/ahead.csv", age_seconds=-3600)

    assert finished(tmp_path) == ["ahead.csv"]


def test_an_empty_file_is_a_file(tmp_path):
    put(tmp_path, "fixed/a.csv", "")

    assert finished(tmp_path) == ["a.csv"]


def test_a_source_without_a_folder_has_no_files(tmp_path):
    assert finished(tmp_path) == []


def test_a_folder_that_belongs_to_no_source_is_refused_and_named(tmp_path):
    put(tmp_path, "other/a.csv")

    with pytest.raises(Refused, match=rf"^{tmp_path}/other belongs to no source: add other\.toml to the sources, or move it$"):
        finished(tmp_path)


def test_a_landing_folder_that_is_missing_is_refused_and_named(tmp_path):
    with pytest.raises(Refused, match=rf"^the landing folder {tmp_path}/nowhere does not exist: "):
        finished(tmp_path / "nowhere")


# What a delivery says of its file


def test_a_delivery_says_name_hash_size_time_and_sequence(tmp_path):
    put(tmp_path, "fixed/2026/night_0042.csv", "hello", age_seconds=60)

    (found,) = _deliveries(_files(str(tmp_path), REFUSING, NOW), _Registry([]), REFUSING, NOW)

    assert found == Delivery(
        file_number=1,
        source="fixed",
        file_name="2026/night_0042.csv",
        file_hash=hashlib.sha256(b"hello").hexdigest(),
        size_octets=5,
        landed_at=NOW,
        modified_at=NOW - timedelta(seconds=60),
        file_sequence=42,
        sequence_series="night",
        status="new",
        reason=None,
        replaces_file_number=None,
    )
    assert place_of(str(tmp_path), found) == f"{tmp_path}/fixed/2026/night_0042.csv"


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        (r"(?P<series>S4PGW[BM])(?P<sequence>\d{6})", "S4PGWB000123", ("S4PGWB", 123)),
        (r"(?P<sequence>\d{6})", "export_202610.csv", (None, 202610)),
        (r"^(?P<sequence>\d{6})", "export_202610.csv", (None, None)),
        (r"(?P<sequence>\d+)", "2026/10/file.csv", (None, None)),
        (None, "S4PGWB000123", (None, None)),
    ],
    ids=["series", "no series", "no match", "folders do not count", "no sequence"],
)
def test_a_sequence_is_read_from_the_file_name_as_the_source_declares(pattern, name, found):
    assert _sequence(name, source(sequence=pattern)) == found


# What a file is: new, duplicate, superseding, refused


def test_files_are_numbered_on_from_the_last(tmp_path):
    lake = Lake(tmp_path, REFUSING)

    assert lake.land(a="1", b="2") == [("a", "new", None), ("b", "new", None)]
    assert lake.land(c="3") == [("c", "new", None)]
    assert [delivery.file_number for delivery in lake.known] == [1, 2, 3]


def test_nothing_is_registered_twice(tmp_path):
    lake = Lake(tmp_path, REFUSING)
    lake.land(a="1")

    assert lake.land() == []


def test_a_file_that_was_only_touched_is_no_delivery(tmp_path):
    lake = Lake(tmp_path, REFUSING)
    lake.land(a="1")

    assert lake.land(a="1") == []


@pytest.mark.parametrize("sources", [REFUSING, SUPERSEDING], ids=["refuse", "supersede"])
def test_the_same_bytes_under_another_name_are_a_duplicate_delivery(tmp_path, sources):
    lake = Lake(tmp_path, sources)
    lake.land(a="1")

    assert lake.land(b="1", c="1") == [("b", "duplicate", 1), ("c", "duplicate", 1)]
    assert lake.known[1].reason == "the same bytes as a.csv"


def test_the_same_bytes_at_once_are_one_new_file_and_a_duplicate(tmp_path):
    assert Lake(tmp_path, REFUSING).land(b="1", a="1") == [("a", "new", None), ("b", "duplicate", 1)]


def test_the_same_bytes_from_another_source_are_no_duplicate(tmp_path):
    sources = {"fixed": source(), "mobile": source("mobile")}
    for name in sources:
        put(tmp_path / name, "a.csv", "1")

    found = _deliveries(_files(str(tmp_path), sources, NOW), _Registry([]), sources, NOW)

    assert [(delivery.source, delivery.status) for delivery in found] == [("fixed", "new"), ("mobile", "new")]


def test_other_bytes_under_a_known_name_are_refused_or_supersede_as_the_source_says(tmp_path):
    refusing, superseding = Lake(tmp_path / "r", REFUSING), Lake(tmp_path / "s", SUPERSEDING)
    for lake in (refusing, superseding):
        lake.land(a="1")

    assert refusing.land(a="2") == [("a", "refused", 1)]
    assert superseding.land(a="2") == [("a", "superseding", 1)]
    assert refusing.known[1].reason == superseding.known[1].reason == "other bytes than delivery 1 of this name"
    assert [d.file_number for d in contents_that_count(refusing.known).values()] == [1]
    assert [d.file_number for d in contents_that_count(superseding.known).values()] == [2]


def test_each_new_version_supersedes_the_one_that_counts(tmp_path):
    lake = Lake(tmp_path, SUPERSEDING)
    lake.land(a="1")
    lake.land(a="2")

    assert lake.land(a="3") == [("a", "superseding", 2)]


def test_a_version_that_comes_back_supersedes_again(tmp_path):
    lake = Lake(tmp_path, SUPERSEDING)
    lake.land(a="1")
    lake.land(a="2")

    assert lake.land(a="1") == [("a", "superseding", 2)]


def test_a_refused_file_that_is_put_back_counts_on_as_it_did(tmp_path):
    lake = Lake(tmp_path, REFUSING)
    lake.land(a="1")
    lake.land(a="2")

    assert lake.land(a="1") == [("a", "duplicate", 1)]


def test_refused_bytes_under_a_new_name_are_new_since_they_were_never_read(tmp_path):
    lake = Lake(tmp_path, REFUSING)
    lake.land(a="1")
    lake.land(a="2")

    assert lake.land(b="2") == [("b", "new", None)]


def test_superseded_bytes_under_a_new_name_are_new_since_they_count_no_more(tmp_path):
    lake = Lake(tmp_path, SUPERSEDING)
    lake.land(a="1")
    lake.land(a="2")

    assert lake.land(b="1") == [("b", "new", None)]


def test_a_duplicate_whose_file_is_filled_with_other_bytes_has_a_known_name(tmp_path):
    lake = Lake(tmp_path, REFUSING)
    lake.land(a="1", b="1")

    assert lake.land(b="2") == [("b", "refused", 2)]


def test_bytes_count_while_a_file_holds_them_whatever_becomes_of_the_first(tmp_path):
    lake = Lake(tmp_path, SUPERSEDING)
    lake.land(a="1", b="1")
    lake.land(a="2")

    assert {d.file_name for d in contents_that_count(lake.known).values()} == {"a.csv", "b.csv"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123"), st.booleans()), max_size=10))
def test_what_the_files_hold_is_read_once_and_nothing_else_counts(tmp_path_factory, turns):
    lake, batches = Lake(tmp_path_factory.mktemp("landing"), SUPERSEDING), list[Batch]()
    files: dict[str, str] = {}
    for name, content, is_accepted in turns:
        lake.land(**{name: content})
        files[name] = hashlib.sha256(content.encode()).hexdigest()
        pending, withdrawn = due(batches, lake.known)
        if is_accepted:
            batches.append(Batch(len(batches) + 1, True, tuple(d.file_number for d in pending), tuple(withdrawn), None, "{}"))
    pending, withdrawn = due(batches, lake.known)
    counted = Counter(number for batch in batches for number in batch.file_numbers)
    counted.subtract(number for batch in batches for number in batch.withdrawn_file_numbers)
    counted.update({delivery.file_number: 1 for delivery in pending})
    counted.subtract(withdrawn)
    hashes = {delivery.file_number: delivery.file_hash for delivery in lake.known}
    assert Counter(hashes[number] for number in counted.elements()) == Counter(set(files.values()))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), max_size=8))
def test_where_changes_are_refused_what_came_first_under_a_name_counts(tmp_path_factory, turns):
    lake = Lake(tmp_path_factory.mktemp("landing"), REFUSING)
    first: dict[str, str] = {}
    for name, content in turns:
        lake.land(**{name: content})
        first.setdefault(name, hashlib.sha256(content.encode()).hexdigest())

    assert {d.file_hash for d in contents_that_count(lake.known).values()} == set(first.values())
    assert {d.file_hash for d in lake.known} == {hashlib.sha256(content.encode()).hexdigest() for _, content in turns}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123")), min_size=1, max_size=6), st.integers(0, 5))
@pytest.mark.parametrize("sources", [REFUSING, SUPERSEDING], ids=["refuse", "supersede"])
def test_a_registry_that_is_read_back_judges_like_the_one_that_went_on(tmp_path_factory, sources, turns, stop):
    # The demo and a killed run both begin again from the table.
    once, again = Lake(tmp_path_factory.mktemp("once"), sources), Lake(tmp_path_factory.mktemp("again"), sources)
    registry = _Registry([])
    for name, content in turns:
        again.land(**{name: content})
        put(once.landing / "fixed", f"{name}.csv", content, again.age)
        once.known += _deliveries(_files(str(once.landing), sources, NOW), registry, sources, NOW)

    assert once.known == again.known


# Gaps


def delivery(series: str | None, sequence: int | None, source_name: str = "fixed", status: str = "new") -> Delivery:
    return Delivery(1, source_name, "a.csv", "hash", 1, NOW, sequence, series, status, None, None, NOW)


def gaps(*numbers: tuple[Any, ...]) -> dict[str, list[int]]:
    return sequence_gaps(delivery(*each) for each in numbers)


def test_numbers_missing_between_the_first_and_the_last_of_a_series_are_gaps():
    assert gaps(("a", 3), ("a", 7), ("a", 4)) == {"fixed a": [5, 6]}


def test_a_series_without_a_gap_is_not_named_and_its_ends_are_not_known():
    assert gaps(("a", 3), ("a", 4), ("b", 9)) == {}


def test_series_and_sources_have_numbers_of_their_own():
    assert gaps(("a", 1), ("a", 3), ("b", 2), ("a", 2, "mobile")) == {"fixed a": [2]}


def test_a_file_without_a_series_or_number_closes_no_gap():
    assert gaps(("a", 1), ("a", 3), (None, 2), ("a", None)) == {"fixed a": [2]}


def test_a_number_that_was_delivered_in_any_way_is_no_gap():
    assert gaps(("a", 1), ("a", 2, "fixed", "refused"), ("a", 3)) == {}


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1))
def test_files_and_gaps_together_are_every_number_of_the_series(found: Iterable[int]):
    numbers = set(found)

    missing = gaps(*(("a", number) for number in numbers)).get("fixed a", [])

    assert sorted([*missing, *numbers]) == list(range(min(numbers), max(numbers) + 1))


# What the header of a charging file says


def charging_source(**files: Any) -> Source:
    from schemas.source import read_source

    shipped = read_source(PROJECT / "schemas" / "sources" / "pgw_ts32297.toml")
    return shipped.model_copy(update={"name": "pgw", "files": shipped.files.model_copy(update={"pattern": "*.cdr*", **files})})


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_charging_files_whose_names_have_no_number_are_numbered_by_their_headers(tmp_path, packed):
    for name, sequence in (("a", 7), ("b", 9), ("unset", 0)):
        path = tmp_path / "pgw" / f"{name}.cdr{'' if packed is bytes else '.gz'}"
        path.parent.mkdir(exist_ok=True)
        octets = bytearray(file_of([b""], FileForm()))
        octets[22:26] = sequence.to_bytes(4, "big")
        path.write_bytes(packed(bytes(octets)))
    sources = {"pgw": charging_source(sequence=None)}

    found = list(_deliveries(_files(str(tmp_path), sources, NOW), _Registry([]), sources, NOW))

    assert [delivery.file_sequence for delivery in found] == [7, 9, None]
    ((series, missing),) = sequence_gaps(found).items()
    assert series == f"pgw {found[0].sequence_series}"
    assert missing == [8]


def test_a_file_without_a_charging_header_has_no_number_and_is_registered_all_the_same(tmp_path):
    put(tmp_path / "pgw", "a.cdr", "rubbish")
    sources = {"pgw": charging_source(sequence=None)}

    (delivery,) = _deliveries(_files(str(tmp_path), sources, NOW), _Registry([]), sources, NOW)

    assert (delivery.status, delivery.file_sequence, delivery.sequence_series) == ("new", None, None)
