"""What lies in data files is counted by file, and a row that breaks a rule is refused without a word of what it holds."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from schemas.tables import ACCEPTED, SUBSCRIBED
from tests.conftest import table_of

AMOUNTS = {
    "records": ("sum", "CASE WHEN interval_index = 0 THEN 1 ELSE 0 END"),
    "octets": ("sum", "CAST(octets_up AS HUGEINT) + octets_down"),
    "first": ("min", "opened_at"),
    "last": ("max", "closed_at"),
}


@pytest.fixture(params=[(1 << 20, 1 << 20), (-1, 1)], ids=["on the driver", "in tasks"])
def counted(request, spark, tmp_path, monkeypatch):
    """What is counted of data files with such rows."""
    from jobs import counts, steps
    from jobs.data_files import TableWriter
    from jobs.lake import Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    most, together = request.param
    monkeypatch.setattr(steps, "DRIVER_ROWS", most)
    monkeypatch.setattr(steps, "GROUP_ROWS", together)

    def count(*texts: str):
        files = []
        for text in texts:
            writer = TableWriter(ACCEPTED, lake.path(ACCEPTED))
            rows = table_of(text, ACCEPTED).combine_chunks()
            writer.write({name: rows[name].combine_chunks() for name in ACCEPTED.names})
            files += writer.close()
        return counts.by_file(lake, ACCEPTED, files, AMOUNTS)

    return count


@pytest.mark.spark
def test_amounts_of_a_file_in_several_data_files_are_added_up(counted):
    found = counted(
        """
        | file_number | interval_index | octets_up | octets_down         | opened_at           | closed_at           |
        | 1           | 0              | 1         | 2                   | 2026-10-02 00:00:00 | 2026-10-02 01:00:00 |
        | 1           | 1              | 4         | 0                   |                     | 2026-10-02 02:00:00 |
        | 2           | 0              | 0         | 7000000000000000000 |                     | 2026-10-03 00:00:00 |
        """,
        """
        | file_number | interval_index | octets_up | octets_down         | opened_at           | closed_at           |
        | 1           | 0              | 8         | 0                   | 2026-10-01 23:00:00 | 2026-10-02 00:30:00 |
        | 2           | 0              | 0         | 7000000000000000000 |                     | 2026-10-02 12:00:00 |
        """,
    )

    assert found == {
        1: {
            "records": 2,
            "octets": 1 + 2 + 4 + 8,
            "first": datetime(2026, 10, 1, 23, tzinfo=UTC),
            "last": datetime(2026, 10, 2, 2, tzinfo=UTC),
        },
        2: {"records": 2, "octets": 2 * 7 * 10**18, "last": datetime(2026, 10, 3, tzinfo=UTC)},
    }


@pytest.mark.spark
def test_a_row_that_breaks_a_rule_is_refused_by_its_name(counted):
    from jobs.lake import LakeError

    with pytest.raises(LakeError) as refused:
        counted("| file_number | octets_up | identifier_key |\n| 1 | 5 | a |", "| file_number | octets_up |\n| 1 | -987654 |")

    assert str(refused.value) == f"accepted: refused by the rule {next(iter(ACCEPTED.checks))}"


@pytest.mark.spark
def test_of_no_files_nothing_is_counted(counted):
    assert counted() == {}


def test_rows_that_break_a_rule_are_not_written_and_the_rules_are_named(tmp_path):
    from jobs.counts import write_judged
    from jobs.lake import LakeError, judged_files

    of_all = {"usage_month": date(2026, 10, 1), "revision": 1, "batch_cutoff": 7}

    def written(text: str, **changes: object) -> list:
        rows = table_of(text, SUBSCRIBED).drop_columns(list(of_all))
        for column, values in changes.items():
            at = rows.column_names.index(column)
            rows = rows.set_column(at, column, pa.array(values, rows.schema.field(column).type))
        return judged_files(SUBSCRIBED, [write_judged(SUBSCRIBED, str(tmp_path), of_all, rows)])

    sound = "| subscription_key | network | active_days |\n| ana | mobile | 31 |\n| ben | fixed | 1 |"
    (file,) = written(sound)
    assert (file.rows, file.partition) == (2, {"usage_month": "2026-10-01", "revision": "1"})
    assert written("| subscription_key | network | active_days |") == []
    with pytest.raises(LakeError, match=r"^subscribed: refused by the rule active_at_least_a_day, network_is_known$"):
        written("| subscription_key | network | active_days |\n| ana | secret | 0 |")
    with pytest.raises(LakeError, match=r"^subscribed: refused by the rule brand NOT NULL$"):
        written(sound, brand=["one", None])
    # A rule that is neither true nor false is broken, too.
    with pytest.raises(LakeError, match=r"^subscribed: refused by the rule network NOT NULL, network_is_known$"):
        written(sound, network=["mobile", None])
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
