"""Whose usage it is, what of it counts once, and who was subscribed on how many days.

The month is October 2026 in Paris: from 2026-09-30 22:00 to 2026-10-31 23:00 UTC, since the clocks go back on the 25th.
Times without an offset are UTC.
"""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import pickle
from datetime import date
from itertools import permutations
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from jobs.legal_calendar import bounds
from schemas.tables import ACCEPTED, FILE_BALANCES, LANDED, METERED, REJECTED, SUBSCRIBED, SUBSCRIPTIONS
from tests.conftest import rows, table_of

pytestmark = pytest.mark.spark

PARIS = "Europe/Paris"
PLAIN_LOST = pa.schema(
    [("identifier_type", pa.string()), ("identifier_key", pa.binary()), ("closed_at", pa.timestamp("us", "UTC"))]
)
NETWORKS = {"pgw": "mobile", "bng": "fixed"}


def month_of(first: date):
    from jobs.legal_calendar import Month

    return Month(first, *bounds(first, ZoneInfo(PARIS)), PARIS)


OCTOBER = month_of(date(2026, 10, 1))


def name(pseudonym: bytes | None) -> str | None:
    """The name that ``key`` made a pseudonym of."""
    return None if pseudonym is None else bytes(pseudonym).rstrip(b"\0").decode()


def metering(spark, records: str, assignments: str, lost: str = "| identifier_type |"):
    """What is known of the subscriptions of October, or of a month: tables of all of them."""
    return found_of(spark, rows(spark, ACCEPTED, records), assignments, lost, OCTOBER)


def found_of(spark, records, assignments: str, lost: str, month) -> dict[str, list[dict]]:
    from jobs.meter import HELD, LOST, OF_ASSIGNMENT, Metering
    from jobs.sums import OF_INTERVAL
    from jobs.table_rows import OfFrame

    told = pa.schema([("kind", pa.string()), ("row", pa.binary())])

    def tell(found):
        tables = {"subscribed": found.subscribed, "held": found.held, "unheld": found.unheld}
        told_of = [{"kind": kind, "row": pickle.dumps(row)} for kind, table in tables.items() for row in table.to_pylist()]
        yield pa.RecordBatch.from_pylist(told_of, told)

    of_lost = OfFrame(rows(spark, REJECTED, lost), LOST.names)
    holders = OfFrame(rows(spark, SUBSCRIPTIONS, assignments), OF_ASSIGNMENT)
    known = Metering(OfFrame(records, OF_INTERVAL), holders, of_lost, NETWORKS, month)
    found: dict[str, list[dict]] = {"subscribed": [], "held": [], "unheld": []}
    for row in known.by_subscription(spark, tell, told).rows().to_pylist():
        found[row["kind"]].append(pickle.loads(row["row"]))
    assert all(set(row) == set(HELD.names) for kind in ("held", "unheld") for row in found[kind])
    keys = [row["subscription_key"] for row in found["subscribed"]]
    assert len(set(keys)) == len(keys)
    return found


def metered(spark, records: str, assignments: str) -> list[SimpleNamespace]:
    """Rows of ``metered`` for records and assignments written as tables."""
    from jobs.meter import added_up

    found = metering(spark, records, assignments)
    return [SimpleNamespace(**row) for row in [*found["held"], *added_up(found["unheld"]).to_pylist()]]


def subscribed_of(spark, assignments: str, month=OCTOBER, lost: str = "| identifier_type |"):
    """Rows of ``subscribed`` by name."""
    nothing = spark.createDataFrame([], ACCEPTED.spark_schema)
    found = found_of(spark, nothing, assignments, lost, month)
    return {name(row["subscription_key"]): SimpleNamespace(**row) for row in found["subscribed"]}


# Attribution


def test_usage_goes_to_the_holder_of_the_identifier_when_the_interval_closed(spark):
    found = metered(
        spark,
        """
        | source | identifier_type | identifier_key | opened_at        | closed_at           | octets_down |
        | pgw    | imsi            | sim            | 2026-10-10 09:00 | 2026-10-10 11:59:59 | 1           |
        | pgw    | imsi            | sim            | 2026-10-10 09:00 | 2026-10-10 12:00    | 10          |
        | pgw    | imsi            | sim            | 2026-10-10 12:00 | 2026-10-10 13:00    | 100         |
        """,
        # Half-open: what closes exactly at the hand-over is the new holder's.
        """
        | identifier_type | identifier_key | subscription_key | network | assigned_from    | assigned_to      |
        | imsi            | sim            | ana              | mobile  | 2026-01-01       | 2026-10-10 12:00 |
        | imsi            | sim            | ben              | mobile  | 2026-10-10 12:00 |                  |
        """,
    )

    assert {name(row.subscription_key): row.octets_down for row in found} == {"ana": 1, "ben": 10 + 100}


def test_usage_without_an_active_holder_stays_visible_under_its_marker(spark):
    found = metered(
        spark,
        """
        | source | identifier_type | identifier_key | closed_at        | octets_up | octets_down |
        | pgw    | imsi            | sim            | 2026-10-10 12:00 | 1         | 2           |
        | pgw    | imsi            | stranger       | 2026-10-10 12:00 | 10        | 20          |
        | bng    | mac             | stranger       | 2026-10-10 12:00 | 100       | 200         |
        | bng    | line_id         | old line       | 2026-10-10 12:00 | 1000      | 2000        |
        | pgw    | msisdn          | sim            | 2026-10-10 12:00 | 10000     | 20000       |
        | pgw    | imsi            | gone           | 2026-10-10 12:00 | 100000    | 200000      |
        """,
        # The old line has a holder who is not subscribed in October; the msisdn only looks like the imsi; gone has ended just then.
        """
        | identifier_type | identifier_key | subscription_key | network | assigned_from | assigned_to      | active_from | active_to        |
        | imsi            | sim            | ana              | mobile  | 2026-01-01    |                  | 2026-01-01  |                  |
        | line_id         | old line       | cy               | fixed   | 2026-01-01    |                  | 2026-01-01  | 2026-09-30 22:00 |
        | imsi            | gone           | ana              | mobile  | 2026-01-01    | 2026-10-10 12:00 | 2026-01-01  |                  |
        """,
    )

    octets = {
        (row.attribution, row.network, name(row.subscription_key), row.access_technology): (row.octets_up, row.octets_down)
        for row in found
    }
    assert octets == {
        ("holder", "mobile", "ana", "-"): (1, 2),
        ("unknown_identifier", "mobile", None, "unspecified"): (10 + 10000 + 100000, 20 + 20000 + 200000),
        ("unknown_identifier", "fixed", None, "unspecified"): (100, 200),
        ("inactive_holder", "fixed", None, "-"): (1000, 2000),
    }


def test_usage_is_added_up_by_technology_and_roaming_zone(spark):
    found = metered(
        spark,
        """
        | source | identifier_type | identifier_key | access_technology | roaming_zone | octets_up | octets_down | month_part | is_estimated |
        | pgw    | imsi            | sim            | 4G                | home         | 1         | 2           | 0          | false        |
        | pgw    | imsi            | sim            | 4G                | home         | 10        | 20          | 1          | false        |
        | pgw    | imsi            | sim            | 4G                | home         | 100       | 200         | 2          | false        |
        | pgw    | imsi            | sim            | 4G                | roaming      | 1000      | 2000        | 0          | true         |
        | pgw    | imsi            | sim            | 4G                | roaming      | 10000     | 20000       | 0          | false        |
        | pgw    | imsi            | sim            |                   | home         | 3         | 0           | 0          | false        |
        | pgw    | imsi            | stranger       |                   | home         | 5         | 0           | 0          | false        |
        """,
        """
        | identifier_type | identifier_key | subscription_key | network | access_technology | assigned_from |
        | imsi            | sim            | ana              | mobile  | 5G                | 2026-01-01    |
        """,
    )

    # The record's technology, else the subscription's, else unspecified; part 2 of a record was counted with part 1.
    assert {
        (name(row.subscription_key), row.access_technology, row.roaming_zone): (
            row.octets_up,
            row.octets_down,
            row.intervals,
            row.is_estimated,
        )
        for row in found
    } == {
        ("ana", "4G", "home"): (1 + 10 + 100, 2 + 20 + 200, 2, False),
        ("ana", "4G", "roaming"): (1000 + 10000, 2000 + 20000, 2, True),
        ("ana", "5G", "home"): (3, 0, 1, False),
        (None, "unspecified", "home"): (5, 0, 1, False),
    }


def test_a_sum_of_a_subscription_that_does_not_fit_is_refused_without_its_value(spark):
    from jobs.lake import LakeError, redacted

    most = (1 << 63) - 1
    records = f"""
        | source | identifier_type | identifier_key | closed_at        | octets_down |
        | pgw    | imsi            | sim            | 2026-10-10 12:00 | {most}      |
        | pgw    | msisdn          | number         | 2026-10-10 12:00 | 1           |
        """
    assignments = """
        | identifier_type | identifier_key | subscription_key | network | assigned_from |
        | imsi            | sim            | ana              | mobile  | 2026-01-01    |
        | msisdn          | number         | ana              | mobile  | 2026-01-01    |
        """

    with pytest.raises(LakeError, match=r"^metered: OverflowError: a sum does not fit into its type$"), redacted(METERED):
        metering(spark, records, assignments)


# Networks


def test_subscriptions_that_are_both_fixed_and_mobile_in_the_month_have_no_network(spark):
    found = subscribed_of(
        spark,
        """
        | subscription_key | network | active_from | active_to        |
        | ana              | fixed   | 2026-01-01  |                  |
        | ana              | mobile  | 2026-01-01  |                  |
        | ben              | mobile  | 2026-01-01  |                  |
        | ben              | mobile  | 2026-02-01  |                  |
        | cy               | mobile  | 2026-01-01  | 2026-09-30 22:00 |
        | cy               | fixed   | 2026-10-01  |                  |
        """,
    )

    assert {who: row.network for who, row in found.items()} == {"ana": None, "ben": "mobile", "cy": "fixed"}
    assert SUBSCRIBED.column("network").is_required  # so such a month is refused


@pytest.mark.parametrize("on_driver", [-1, 1 << 22], ids=["in tasks", "on the driver"])
def test_a_month_with_such_subscriptions_is_refused_and_nothing_of_it_is_kept(spark, tmp_path, monkeypatch, on_driver):
    from jobs.batches import AsOf, Batch
    from jobs.lake import Lake, in_month
    from jobs.meter import LOST, OF_ASSIGNMENT, Metering
    from jobs.month import _save_metered
    from jobs.run import Refused
    from jobs.sums import OF_INTERVAL
    from jobs.table_rows import OfFiles, files_of

    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", on_driver)
    monkeypatch.setattr("jobs.pieces._LEAST_PIECE_ROWS", 1)
    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    records = [
        row | {"batch": 1}
        for row in table_of(f"{USED}\n| pgw | imsi | sim 1 | 2026-10-10 | 7 | 2026-10-01 |", ACCEPTED).to_pylist()
    ]
    lake.append_rows(ACCEPTED, records)

    def metering(assignments: str) -> Metering:
        holders = [row | {"batch": number} for row in table_of(assignments, SUBSCRIPTIONS).to_pylist()]
        lake.append_rows(SUBSCRIPTIONS, holders)
        counted = AsOf(lake, [Batch(1, False, (), (), None, "{}"), Batch(number, True, (), (), None, "{}")], number)
        seen = AsOf(lake, [Batch(1, True, (), (), None, "{}"), Batch(number, True, (), (), None, "{}")], number)
        return Metering(
            OfFiles(lake, [files_of(seen, ACCEPTED, in_month(OCTOBER.usage_month))], OF_INTERVAL),
            OfFiles(lake, [files_of(counted, SUBSCRIPTIONS)], OF_ASSIGNMENT),
            OfFiles(lake, [], LOST.names),
            NETWORKS,
            OCTOBER,
        )

    number = 2
    lines = [f"| imsi | sim {n} | sub {n} | mobile | 2026-01-01 | 2026-01-01 |" for n in range(8)]
    both = [f"| line_id | line {n} | sub {n} | fixed | 2026-01-01 | 2026-01-01 |" for n in (1, 3, 6)]
    with pytest.raises(Refused, match=r"^2026-10: 3 subscriptions are both fixed and mobile in the export$"):
        _save_metered(lake, metering("\n".join([HELD_BY, *lines, *both])), 2, 1)
    assert [lake.version(table) for table in (SUBSCRIBED, METERED)] == [-1, -1]

    number = 3
    lake.erase(SUBSCRIPTIONS, "batch = 2")
    assert _save_metered(lake, metering("\n".join([HELD_BY, *lines])), 3, 1) == (8, 1)
    (used,) = lake.read(METERED).collect()
    assert (name(used.subscription_key), used.octets_down, used.usage_month, used.batch_cutoff) == (
        "sub 1",
        7,
        date(2026, 10, 1),
        3,
    )
    assert {(row.usage_month, row.revision, row.batch_cutoff) for row in lake.read(SUBSCRIBED).collect()} == {
        (date(2026, 10, 1), 1, 3)
    }


USED = "| source | identifier_type | identifier_key | closed_at | octets_down | usage_month |"
HELD_BY = "| identifier_type | identifier_key | subscription_key | network | assigned_from | active_from |"


# Records with one key and different content


def delivered(records: str, duplicates: str, deliveries: list[tuple[int, int | None, str]]) -> dict[str | None, list[int]]:
    """The octets that count, by key."""
    from jobs.conflicts import judged

    ranks = [dict(zip(("file_number", "file_sequence", "file_hash"), of, strict=True)) for of in deliveries]
    accepted = table_of(records, ACCEPTED)
    dropped = judged(accepted, table_of(duplicates, REJECTED), pa.Table.from_pylist(ranks))
    places = {(row["file_number"], row["record_ordinal"]) for row in dropped.to_pylist()}
    found: dict[str | None, list[int]] = {}
    for row in accepted.to_pylist():
        if (row["file_number"], row["record_ordinal"]) not in places:
            found.setdefault(name(row["record_key"]), []).append(row["octets_down"])
    return {record: sorted(octets) for record, octets in found.items()}


NO_DUPLICATES = "| record_key |"


def test_of_conflicting_records_the_one_delivered_last_counts():
    found = delivered(
        """
        | record_key  | file_number | record_ordinal | octets_down | is_conflicting |
        | by sequence | 1           | 9              | 1           | false          |
        | by sequence | 2           | 1              | 2           | true           |
        | by hash     | 4           | 1              | 1           | true           |
        | by hash     | 3           | 9              | 2           | false          |
        | by ordinal  | 1           | 8              | 1           | false          |
        | by ordinal  | 1           | 7              | 2           | true           |
        | unnumbered  | 5           | 9              | 1           | true           |
        | unnumbered  | 1           | 1              | 2           | false          |
        | alone       | 1           | 2              | 5           | false          |
        |             | 1           | 3              | 6           | false          |
        |             | 2           | 3              | 7           | false          |
        """,
        NO_DUPLICATES,
        [(1, 10, "zz"), (2, 11, "aa"), (3, 12, "bb"), (4, 12, "cc"), (5, None, "zz")],
    )

    assert found == {"by sequence": [2], "by hash": [1], "by ordinal": [1], "unnumbered": [2], "alone": [5], None: [6, 7]}


def test_the_record_that_counts_does_not_depend_on_the_order_of_arrival():
    # One content of 1 octet in the files of sequence 1 and 3, another of 2 octets in that of 2: the third delivery is the last.
    accepted = ["| record_key | file_number | record_ordinal | octets_down | is_conflicting |"]
    duplicate = [
        "| record_key | file_number | record_ordinal | reason | duplicate_of_file_number | duplicate_of_record_ordinal |"
    ]
    deliveries = []
    for order, arrival in enumerate(permutations((1, 2, 3)), start=1):
        first: dict[int, int] = {}
        for position, sequence in enumerate(arrival, start=1):
            content, number = {1: 1, 2: 2, 3: 1}[sequence], 10 * order + position
            deliveries.append((number, sequence, f"hash {sequence}"))
            if content in first:
                duplicate.append(f"| k{order} | {number} | 1 | duplicate | {first[content]} | 1 |")
            else:
                accepted.append(f"| k{order} | {number} | 1 | {content} | {'true' if first else 'false'} |")
                first[content] = number

    found = delivered("\n".join(accepted), "\n".join(duplicate), deliveries)

    assert found == {f"k{order}": [1] for order in range(1, 7)}


def test_a_duplicate_ranks_its_record_in_every_month_that_the_record_was_split_over():
    # In November only the second parts are read, while the duplicate stands for its first part, in October.
    found = delivered(
        """
        | record_key | usage_month | month_part | file_number | record_ordinal | octets_down | is_conflicting |
        | split      | 2026-11-01  | 2          | 1           | 1              | 1           | false          |
        | split      | 2026-11-01  | 2          | 2           | 1              | 2           | true           |
        """,
        """
        | record_key | file_number | record_ordinal | reason    | duplicate_of_file_number | duplicate_of_record_ordinal |
        | split      | 3           | 1              | duplicate | 1                        | 1                           |
        """,
        [(1, 1, "a"), (2, 2, "b"), (3, 3, "c")],
    )

    assert found == {"split": [1]}


def test_a_record_of_several_intervals_counts_with_all_of_them():
    found = delivered(
        """
        | record_key | interval_index | file_number | record_ordinal | octets_down | is_conflicting |
        | many       | 0              | 1           | 1              | 1           | false          |
        | many       | 1              | 1           | 1              | 2           | false          |
        | many       | 0              | 2           | 1              | 10          | true           |
        | many       | 1              | 2           | 1              | 20          | true           |
        """,
        NO_DUPLICATES,
        [(1, 1, "a"), (2, 2, "b")],
    )

    assert found == {"many": [10, 20]}


@pytest.mark.parametrize("most", [0, 1 << 19], ids=["many", "few"])
@pytest.mark.parametrize("on_driver", [0, 1 << 22], ids=["in tasks", "on the driver"])
def test_a_corrected_assignment_counts_as_it_was_delivered_last(spark, tmp_path, monkeypatch, most, on_driver):
    from jobs.batches import AsOf, Batch
    from jobs.conflicts import settled, superseded
    from jobs.lake import Lake

    monkeypatch.setattr("jobs.conflicts.FEW_ROWS", most)
    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", on_driver)
    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    assignments = """
        | batch | record_key | file_number | record_ordinal | assigned_to | brand  | network | is_conflicting |
        | 1     | ana's sim  | 1           | 1              |             | lasts  | mobile  | false          |
        | 2     | ana's sim  | 2           | 1              | 2027-10-10  | ended  | mobile  | true           |
        | 1     | ben's sim  | 1           | 2              |             | other  | mobile  | false          |
        | 2     | gone       | 2           | 2              |             | first  | mobile  | false          |
        | 9     | gone       | 4           | 2              |             | second | mobile  | true           |
        """
    duplicates = """
        | batch | record_key | file_number | record_ordinal | reason    | duplicate_of_file_number | duplicate_of_record_ordinal |
        | 3     | ana's sim  | 3           | 1              | duplicate | 1                        | 1                           |
        """
    for table, text in ((SUBSCRIPTIONS, assignments), (REJECTED, duplicates)):
        lake.append_rows(table, table_of(text, table).to_pylist())
    lines = [f"| {n} | {n} | hash {n} | new |" for n in range(1, 5)]
    deliveries = "\n".join(["| file_number | file_sequence | file_hash | status |", *lines])
    lake.append_rows(LANDED, table_of(deliveries, LANDED).to_pylist())
    batches = [Batch(number, True, (number,), (), None, "{}") for number in (1, 2, 3)]

    found = {cutoff: settled(AsOf(lake, batches, cutoff), SUBSCRIPTIONS) for cutoff in (2, 3)}

    brands = {cutoff: sorted(row.brand for row in frame.collect()) for cutoff, frame in found.items()}
    assert brands == {2: ["ended", "first", "other"], 3: ["first", "lasts", "other"]}
    assert superseded(AsOf(lake, batches, 3), SUBSCRIPTIONS).rows().to_pylist() == [{"file_number": 2, "record_ordinal": 1}]


# Active days

ACTIVITY = "| subscription_key | network | active_from | active_to |"


def active_days(spark, activity: str, month=OCTOBER) -> dict[str, int]:
    return {who: row.active_days for who, row in subscribed_of(spark, activity, month).items()}


def test_active_days_are_the_legal_days_that_any_activity_touches(spark):
    days = active_days(
        spark,
        """
        | subscription_key | network | active_from               | active_to                 |
        | open ended       | mobile  | 2026-01-01                |                           |
        | whole month      | mobile  | 2026-10-01T00:00:00+02:00 | 2026-11-01T00:00:00+01:00 |
        | to midnight      | mobile  | 2026-10-10T08:00:00+02:00 | 2026-10-11T00:00:00+02:00 |
        | past midnight    | mobile  | 2026-10-10T08:00:00+02:00 | 2026-10-11T00:00:01+02:00 |
        | a second         | mobile  | 2026-10-31T23:59:59+01:00 |                           |
        | hole             | mobile  | 2026-10-01T00:00:00+02:00 | 2026-10-03T00:00:00+02:00 |
        | hole             | mobile  | 2026-10-10T12:00:00+02:00 | 2026-10-12T12:00:00+02:00 |
        | overlap          | mobile  | 2026-10-01T00:00:00+02:00 | 2026-10-05T00:00:00+02:00 |
        | overlap          | mobile  | 2026-10-03T00:00:00+02:00 | 2026-10-08T00:00:00+02:00 |
        | one day twice    | mobile  | 2026-10-10T08:00:00+02:00 | 2026-10-10T09:00:00+02:00 |
        | one day twice    | mobile  | 2026-10-10T20:00:00+02:00 | 2026-10-10T21:00:00+02:00 |
        | the 25 hours     | mobile  | 2026-10-25T00:00:00+02:00 | 2026-10-26T00:00:00+01:00 |
        | the last of them | mobile  | 2026-10-25T23:00:00+01:00 | 2026-10-26T00:00:00+01:00 |
        | from September   | mobile  | 2026-09-15T00:00:00+02:00 | 2026-10-02T00:00:00+02:00 |
        | into November    | mobile  | 2026-10-31T00:00:00+01:00 | 2026-11-15T00:00:00+01:00 |
        | before           | mobile  | 2026-09-01T00:00:00+02:00 | 2026-10-01T00:00:00+02:00 |
        | after            | mobile  | 2026-11-01T00:00:00+01:00 |                           |
        | no moment        | mobile  | 2026-10-10T08:00:00+02:00 | 2026-10-10T08:00:00+02:00 |
        """,
    )

    assert days == {
        "open ended": 31,
        "whole month": 31,
        "to midnight": 1,
        "past midnight": 2,
        "a second": 1,
        "hole": 2 + 3,
        "overlap": 7,
        "one day twice": 1,
        "the 25 hours": 1,
        "the last of them": 1,
        "from September": 1,
        "into November": 1,
    }


@pytest.mark.parametrize(("first", "days"), [(date(2026, 3, 1), 31), (date(2028, 2, 1), 29), (date(2026, 12, 1), 31)])
def test_a_month_has_its_legal_days(spark, first, days):
    month = month_of(first)

    # In March the clocks go forward: its last day has 23 hours.
    assert active_days(spark, f"{ACTIVITY}\n| ana | mobile | 2020-01-01 | |", month) == {"ana": days}
    assert month.days == days


def test_every_active_subscription_is_listed_with_or_without_usage_as_its_latest_assignment_in_the_month_says(spark):
    found = subscribed_of(
        spark,
        """
        | subscription_key | network | segment | brand | assigned_from    | assigned_to | active_from | active_to  |
        | ana              | mobile  | home    | old   | 2026-01-01       | 2026-10-10  | 2026-01-01  |            |
        | ana              | mobile  | work    | new   | 2026-10-10       |             | 2026-01-01  |            |
        | ben              | fixed   | home    | now   | 2026-01-01       |             | 2026-01-01  |            |
        | ben              | fixed   | home    | later | 2026-10-31 23:00 |             | 2026-01-01  |            |
        | cy               | fixed   | home    | ended | 2026-01-01       |             | 2026-01-01  | 2026-05-01 |
        """,
    )

    assert {who: (row.network, row.segment, row.brand, row.is_estimated) for who, row in found.items()} == {
        "ana": ("mobile", "work", "new", False),
        "ben": ("fixed", "home", "now", False),
    }


# Lost records


@pytest.mark.parametrize("on_driver", [0, 1 << 22], ids=["in tasks", "on the driver"])
def test_a_record_that_is_known_to_be_lost_flags_its_holder(spark, tmp_path, monkeypatch, on_driver):
    from jobs.batches import AsOf, Batch
    from jobs.lake import Lake
    from jobs.lost_records import lost_records
    from jobs.meter import LOST

    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", on_driver)
    rejected = """
        | file_number | record_ordinal | reason           | usage_month | identifier_type | identifier_key | closed_at        | record_key  |
        | 1           | 1              | volume_malformed | 2026-10-01  | imsi            | at close       | 2026-10-10 12:00 |             |
        | 1           | 2              | duplicate        | 2026-10-01  | imsi            | twice          | 2026-10-10 12:00 |             |
        | 1           | 3              | volume_malformed | 2026-09-01  | imsi            | last month     | 2026-09-10 12:00 |             |
        | 1           | 4              | volume_malformed | 2026-10-01  | imsi            | mended         | 2026-10-10 12:00 | sent again  |
        | 1           | 5              | volume_malformed | 2026-10-01  | imsi            | not mended     | 2026-10-10 12:00 | only once   |
        | 1           | 6              | time_malformed   |             | imsi            | some time      |                  |             |
        | 2           | 1              | time_malformed   |             | imsi            | other month    |                  |             |
        | 3           | 1              | time_malformed   |             | imsi            | no other times |                  |             |
        | 3           | 2              | volume_malformed | 2026-10-01  | imsi            | no other times | 2026-10-10 12:00 |             |
        | 1           | 7              | line_malformed   |             |                 |                |                  |             |
        | 1           | 8              | volume_malformed | 2026-10-01  | imsi            | of no month    | 2026-10-10 12:00 | next month  |
        """
    balances = """
        | file_number | first_closed_at  | last_closed_at   |
        | 1           | 2026-09-30 12:00 | 2026-10-01 12:00 |
        | 2           | 2026-09-01 12:00 | 2026-09-30 12:00 |
        | 3           |                  |                  |
        """
    records = """
        | record_key | record_ordinal | usage_month |
        | sent again | 1              | 2026-10-01  |
        |            | 2              | 2026-10-01  |
        | next month | 3              | 2026-11-01  |
        """
    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    for table, text in ((REJECTED, rejected), (FILE_BALANCES, balances), (ACCEPTED, records)):
        source = {"batch": 1, "source": "pgw"}
        lake.append_rows(table, [row | source for row in table_of(text, table).to_pylist()])
    lake.append_rows(REJECTED, [row | {"batch": 1, "source": "counters"} for row in table_of(rejected, REJECTED).to_pylist()])

    lost = lost_records(AsOf(lake, [Batch(1, True, (1,), (), None, "{}")], 1), OCTOBER, ["pgw"])
    told = lost.mapped(lambda batches: (rows.select(LOST.names).cast(PLAIN_LOST) for rows in batches), PLAIN_LOST, on_driver > 0)
    found = [(name(row["identifier_key"]), row["closed_at"] is not None) for row in told.rows().to_pylist()]

    # Record 3/1 has no time, and its file tells of October only by another rejected record.
    assert sorted(found) == [
        ("at close", True),
        ("no other times", False),
        ("no other times", True),
        ("not mended", True),
        ("of no month", True),
        ("some time", False),
    ]


def test_a_lost_record_flags_who_held_its_identifier_at_its_close_or_else_in_the_month(spark):
    lost = """
        | identifier_type | identifier_key | closed_at        |
        | imsi            | timed          | 2026-10-10 12:00 |
        | imsi            | untimed        |                  |
        | imsi            | stranger       | 2026-10-10 12:00 |
        """

    found = subscribed_of(
        spark,
        """
        | identifier_type | identifier_key | subscription_key | network | assigned_from    | assigned_to      | active_from |
        | imsi            | timed          | before           | mobile  | 2026-01-01       | 2026-10-10 12:00 | 2026-01-01  |
        | imsi            | timed          | at               | mobile  | 2026-10-10 12:00 |                  | 2026-01-01  |
        | msisdn          | timed          | other type       | mobile  | 2026-01-01       |                  | 2026-01-01  |
        | imsi            | untimed        | till September   | mobile  | 2026-01-01       | 2026-09-30 22:00 | 2026-01-01  |
        | imsi            | untimed        | in October       | mobile  | 2026-09-30 22:00 | 2026-10-31 23:00 | 2026-01-01  |
        | imsi            | untimed        | from November    | mobile  | 2026-10-31 23:00 |                  | 2026-01-01  |
        """,
        lost=lost,
    )

    assert {who for who, row in found.items() if row.is_estimated} == {"at", "in October"}
    assert len(found) == 6
