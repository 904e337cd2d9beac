"""One holder at a time: whose usage it is can always be said."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from jobs.run import Refused
from schemas.tables import SUBSCRIPTIONS
from tests.conftest import rows, table_of

HELD = """
    | source | file_number | record_ordinal | identifier_type | identifier_key | subscription_key | assigned_from | assigned_to |
    | crm    | 3           | 1              | imsi            | moved          | ana              | 2026-01-01    | 2026-10-10  |
    | crm    | 3           | 2              | imsi            | moved          | ben              | 2026-10-10    |             |
    | crm    | 3           | 3              | imsi            | shared         | ana              | 2026-01-01    |             |
    | crm    | 3           | 4              | imsi            | shared         | ben              | 2026-02-01    | 2026-02-02  |
    | crm    | 3           | 5              | imsi            | shared         | cy               | 2026-03-01    |             |
    | crm    | 3           | 6              | msisdn          | shared         | dee              | 2026-01-01    |             |
    | crm    | 3           | 7              | imsi            | never          | ana              | 2026-05-01    | 2026-05-01  |
    | crm    | 3           | 8              | imsi            | never          | ben              | 2026-01-01    |             |
"""
SHARED = "2 assignments overlap another holder of the same identifier, the first at source crm, delivery 3, record 4"


@pytest.fixture(params=["of a frame", "of files", "of files, in tasks"])
def assignments(request, spark, tmp_path, monkeypatch):
    """What is looked at of assignments written as a table, but for those of some ordinals."""
    from jobs.data_files import TableWriter
    from jobs.holders import Assignments
    from jobs.lake import Lake

    if request.param.endswith("tasks"):
        monkeypatch.setattr("jobs.steps.DRIVER_ROWS", -1)
        monkeypatch.setattr("jobs.steps.GROUP_ROWS", 1)

    def held(text: str, *without: int) -> Assignments:
        if request.param == "of a frame":
            return Assignments.of_frame(
                rows(spark, SUBSCRIPTIONS, text).where(f"record_ordinal NOT IN (0, {', '.join(map(str, without)) or 0})")
            )
        lake, found = Lake(lambda: spark, str(tmp_path), lambda: None), table_of(text, SUBSCRIPTIONS).combine_chunks()
        files = []
        for begin, end in ((0, 4), (4, len(found))):  # clashes lie in one file, and in two
            writer = TableWriter(SUBSCRIPTIONS, lake.path(SUBSCRIPTIONS))
            writer.write({name: found[name].combine_chunks().slice(begin, end - begin) for name in SUBSCRIPTIONS.names})
            files += writer.close()

        def counting(batch: pa.RecordBatch) -> np.ndarray:
            return ~np.isin(batch["record_ordinal"].to_numpy(), without)

        return Assignments.of_files(lake, {file.path: file.rows for file in files}, counting)

    return held


@pytest.mark.spark
def test_an_identifier_with_two_holders_at_once_is_refused_by_its_place(assignments):
    from jobs.holders import require_one_holder

    require_one_holder(assignments(HELD, 3, 4, 5))
    with pytest.raises(Refused) as refused:
        require_one_holder(assignments(HELD))
    assert str(refused.value) == SHARED


@pytest.mark.spark
def test_what_does_not_count_overlaps_nothing(assignments):
    assert assignments(HELD, 3).overlapping().num_rows == 0
    assert assignments(HELD, 4).overlapping()["record_ordinal"].to_pylist() == [5]


@pytest.mark.spark
def test_the_same_assignments_last_into_a_month_whether_arrow_or_spark_says_so(spark):
    from jobs.holders import lasting_into
    from jobs.legal_calendar import Month
    from jobs.month import lasts_into

    month = Month(
        date(2026, 10, 1), datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC), "Europe/Paris"
    )
    instants = ["", "2026-09-30 21:59:59", "2026-09-30 22:00:00", "2026-10-01 00:00:00"]
    lines = [f"| {4 * n + m} | {ended} | {inactive} |" for n, ended in enumerate(instants) for m, inactive in enumerate(instants)]
    text = "\n".join(["| record_ordinal | assigned_to | active_to |", *lines])

    by_spark = {row.record_ordinal for row in rows(spark, SUBSCRIPTIONS, text).where(lasts_into(month)).collect()}

    found = table_of(text, SUBSCRIPTIONS).combine_chunks().to_batches()[0]
    assert set(found["record_ordinal"].filter(pa.array(lasting_into(found, month.begin))).to_pylist()) == by_spark
    assert by_spark == {*range(16)} - {5, 6, 9, 10}
