"""What a stage reads and writes, as OpenLineage datasets: files, factors, tables of the lake with their columns, PostgreSQL.

Imported only while a task runs and lineage is wanted; `schemas/` says all of it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import documentation_dataset, schema_dataset

from jobs.run import Settings
from schemas.flow import FACTORS, FLOWS, LANDING, REPORTS, SERVED
from schemas.table import Table
from schemas.tables import PUBLISHED, TABLES

POSTGRESQL_PORT = 5432


def of_stage(stage: str) -> OperatorLineage:
    """The datasets of a stage, where the settings say they are."""
    settings, flow = Settings.from_environment(), FLOWS[stage]
    return OperatorLineage(
        inputs=[InputDataset(**dataset(settings, name)) for name in flow.reads],
        outputs=[OutputDataset(**dataset(settings, name)) for name in flow.writes],
    )


def dataset(settings: Settings, name: str) -> dict[str, Any]:
    """Namespace and name as OpenLineage's naming rules have them, and the facets that the declaration of a table gives."""
    if name == LANDING:
        return _place(settings.landing)
    if name == FACTORS:
        return _place(str(settings.factors))
    if name == REPORTS:
        return _place(str(settings.reports))
    if name == SERVED:
        return {**_served(settings), "facets": _facets(PUBLISHED)}
    return {**_place(f"{settings.lake}/{name}"), "facets": _facets(_TABLES[name])}


_TABLES = {table.name: table for table in TABLES}


def _place(place: str) -> dict[str, Any]:
    """A folder: `file` and its path, or the store with its bucket and the path within."""
    if "://" not in place:
        return {"namespace": "file", "name": place}
    split = urlsplit(place)
    return {"namespace": f"{split.scheme.replace('s3a', 's3')}://{split.netloc}", "name": split.path.strip("/") or "/"}


def _served(settings: Settings) -> dict[str, Any]:
    """The table of PostgreSQL, without user and password. The embedded server has no port: its folder stands for it."""
    if settings.serving_url is None:
        return {"namespace": "postgres://localhost", "name": f"{settings.var / 'serving'}.{SERVED}"}
    url = urlsplit(settings.serving_url)
    return {
        "namespace": f"postgres://{url.hostname}:{url.port or POSTGRESQL_PORT}",
        "name": f"{url.path.strip('/') or 'postgres'}.{SERVED}",
    }


def _facets(table: Table) -> dict[str, Any]:
    fields = [schema_dataset.SchemaDatasetFacetFields(c.name, c.sql_type, c.comment) for c in table.columns]
    return {
        "schema": schema_dataset.SchemaDatasetFacet(fields=fields),
        "documentation": documentation_dataset.DocumentationDatasetFacet(description=table.comment),
    }
