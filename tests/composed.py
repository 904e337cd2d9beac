"""Rows of ``published`` as publish composes them from a frame of components."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa

from schemas.tables import PUBLISHED, SUBSCRIBED


def composed(spark: Any, estimated: Any, subscribed: Any = None, usage_month: date = date(2026, 10, 1)) -> pa.Table:
    """The rows, of revision 3 and publication 12, with ``segment``."""
    from jobs.data_files import rows_of
    from jobs.pieces import PIECES, in_one, tables_of
    from jobs.publish import OF_COMPONENT, OF_SUBSCRIBED, compose
    from jobs.table_rows import OfFrame

    def told(rows: pa.Table) -> Any:
        assert rows["subscription_key"].to_pylist() == sorted(rows["subscription_key"].to_pylist())
        columns = {name: rows[name].combine_chunks() for name in rows.column_names if name != "segment"}
        of_all = {"usage_month": usage_month, "revision": 3, "publication_id": 12}
        found = pa.Table.from_batches([rows_of(PUBLISHED, columns | of_all)])
        return in_one("rows", found.append_column("segment", rows["segment"]))

    nobody = spark.createDataFrame([], SUBSCRIBED.spark_schema) if subscribed is None else subscribed
    steps = compose(spark, OfFrame(estimated, OF_COMPONENT), OfFrame(nobody, OF_SUBSCRIBED), told, PIECES)
    tables = tables_of(steps.rows().to_batches(), ["rows"])["rows"]
    return pa.concat_tables(tables).combine_chunks()
