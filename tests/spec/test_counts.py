"""What lies in data files is counted by file, and a row that breaks a rule is refused without a word of what it holds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.tables import ACCEPTED
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

    lake = Lake(spark, str(tmp_path), lambda: None)
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
