"""What billing and the portal rely on. A change here breaks them: it needs a new version of the contract and their consent."""

from __future__ import annotations

from schemas.tables import PUBLICATIONS, PUBLISHED

CONTRACT_1 = {
    "subscription_key": "STRING NOT NULL",
    "usage_month": "DATE NOT NULL",
    "network": "STRING NOT NULL",
    "brand": "STRING NOT NULL",
    "data_volume_bytes": "BIGINT NOT NULL",
    "data_volume_gb_displayed": "BIGINT NOT NULL",
    "is_estimated": "BOOLEAN NOT NULL",
    "volume_gco2e": "DECIMAL(24,12) NOT NULL",
    "subscription_gco2e": "DECIMAL(24,12) NOT NULL",
    "footprint_gco2e": "DECIMAL(24,12) NOT NULL",
    "footprint_gco2e_low": "DECIMAL(24,12)",
    "footprint_gco2e_high": "DECIMAL(24,12)",
    "footprint_gco2e_displayed": "BIGINT NOT NULL",
    "factor_set": "STRING NOT NULL",
    "is_national_default": "BOOLEAN NOT NULL",
    "method_id": "STRING NOT NULL",
    "revision": "INT NOT NULL",
    "publication_id": "BIGINT NOT NULL",
}


def test_published_keeps_every_column_and_type_that_its_readers_rely_on():
    declared = {c.name: f"{c.sql_type}{' NOT NULL' if c.is_required else ''}" for c in PUBLISHED.columns}

    assert {name: declared.get(name) for name in CONTRACT_1} == CONTRACT_1
    assert PUBLISHED.key == ("subscription_key", "usage_month")


def test_when_a_month_was_published_is_told_by_publications():
    assert {"publication_id", "usage_month", "revision", "published_at"} <= set(PUBLICATIONS.names)
