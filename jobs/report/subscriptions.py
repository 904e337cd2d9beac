"""What subscriptions used and emitted, told of so many at a time that no one is singled out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

import duckdb

from jobs.lake_reader import Row, rows, stage_rows
from jobs.legal_calendar import months_before
from jobs.report.cells import Networks, classes_together, is_small, kinds_together, named, networks_shown, tone
from schemas.tables import ESTIMATED, PUBLICATIONS, REVISIONS

GIGABYTE_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Decimal gigabytes that classes of volume begin above; the first class is of those who used nothing."""
_GRAM_EDGES = 100
"""About so many edges, from the 5th to the 95th percentile, that classes of grams may begin above."""
_GRAM_WIDTH = 5
"""Steps between edges in a class of grams, or more where a part of it would be small."""
MONTHS_SHOWN = 13


@dataclass(frozen=True)
class Totals:
    """Sums of the networks that are told of apart or together."""

    networks: Networks
    subscriptions: int
    octets: int
    volume_gco2e: Decimal
    gco2e: Decimal
    estimated: int | None
    """Subscriptions with estimated data; None if they are too few to be told of."""

    @property
    def name(self) -> str:
        """The networks in words."""
        return named(self.networks)

    @property
    def tone(self) -> str:
        """Their colour."""
        return tone(self.networks)


def totals(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> list[Totals]:
    """Sums of a publication by network, as they may be told; none if all of them together are too few."""
    query = f"""
        SELECT network, count(*) AS subscriptions, sum(data_volume_bytes)::HUGEINT AS octets, sum(volume_gco2e) AS volume_gco2e,
            sum(footprint_gco2e) AS gco2e, count_if(is_estimated) AS estimated
        FROM {_revision(published)} GROUP BY network ORDER BY network"""
    by_network = {row["network"]: row for row in rows(connection, query)}
    return [
        _totals(networks, [by_network[network] for network in networks])
        for networks in networks_shown({network: row["subscriptions"] for network, row in by_network.items()})
    ]


def _totals(networks: Networks, some: Sequence[Row]) -> Totals:
    names = ("subscriptions", "octets", "volume_gco2e", "gco2e")
    estimated = sum(row["estimated"] for row in some)
    subscriptions = sum(row["subscriptions"] for row in some)
    is_told = not is_small(estimated) and not is_small(subscriptions - estimated)
    sums = {name: sum(row[name] for row in some) for name in names}
    return Totals(networks, **sums, estimated=estimated if is_told else None)


def _revision(published: Mapping[str, Any]) -> str:
    """A query in parentheses: the published rows of a publication."""
    month, number = published["usage_month"], int(published["publication_id"])
    return f"(SELECT * FROM {REVISIONS.name} WHERE usage_month = DATE '{month}' AND publication_id = {number})"


@dataclass(frozen=True)
class Distribution:
    """Subscriptions of some networks by classes of one measure: labels, and how many are in each."""

    networks: Networks
    unit: str
    classes: Sequence[tuple[str, int]]


def distributions(
    connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], networks: Networks
) -> tuple[Distribution, Distribution]:
    """Subscriptions by their volume and by their grams.

    Grams follow from the volume: if the classes of both were laid side by side, what lies between two of their edges could be
    told. So classes of grams are put together until none has a small part in a class of volume.
    """
    rows_of_networks = f"(SELECT * FROM {_revision(published)} WHERE list_contains(?, network))"
    grams = _gram_edges(connection, rows_of_networks, networks)
    octets = [edge * 10**9 for edge in GIGABYTE_EDGES]
    query = f"""
        SELECT {_class("data_volume_bytes", octets)} AS volume, {_class("footprint_gco2e", grams)} AS grams, count(*) AS found
        FROM {rows_of_networks} GROUP BY ALL ORDER BY ALL"""
    matrix = [[0] * (len(octets) + 1) for _ in range(len(grams) + 1)]
    for row in rows(connection, query, [list(networks)]):
        matrix[row["grams"]][row["volume"]] = row["found"]
    by_volume = [sum(of_grams[place] for of_grams in matrix) for place in range(len(octets) + 1)]
    volumes = classes_together([[count] for count in by_volume])
    parts = [[sum(of_grams[begin:end]) for begin, end in volumes] for of_grams in matrix]
    gram_classes = classes_together(parts, width=_GRAM_WIDTH) if volumes else []
    return (
        Distribution(networks, "GB", _labelled(volumes, GIGABYTE_EDGES, by_volume)),
        Distribution(networks, "gCO2e", _labelled(gram_classes, grams, [sum(p) for p in matrix])),
    )


def _class(column: str, edges: Sequence[int]) -> str:
    """An SQL expression: how many edges a value lies above."""
    return " + ".join(f"({column} > {edge})::INT" for edge in edges)


def _gram_edges(connection: duckdb.DuckDBPyConnection, of: str, networks: Networks) -> list[int]:
    """Round numbers, a round step apart, about from the 5th to the 95th percentile."""
    query = f"SELECT quantile_disc(footprint_gco2e, [0.05, 0.95]) AS ends FROM {of}"
    low, high = rows(connection, query, [list(networks)])[0]["ends"]
    wanted = max((high - low) / _GRAM_EDGES, Decimal(1))
    power = 10 ** wanted.adjusted()
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= wanted)
    first, last = int(low // step) * step, -int(-high // step) * step
    return list(range(first, last + 1, step))


def _labelled(ranges: Sequence[tuple[int, int]], edges: Sequence[int], counts: Sequence[int]) -> list[tuple[str, int]]:
    return [(_label(begin, end, edges), sum(counts[begin:end])) for begin, end in ranges]


def _label(begin: int, end: int, edges: Sequence[int]) -> str:
    """Class n lies above edge n - 1 and up to edge n."""
    low = edges[begin - 1] if begin else None
    high = edges[end - 1] if end <= len(edges) else None
    if low is None:
        return "all" if high is None else f"up to {high:,}" if high else "none"
    return f"over {low:,}" if high is None else f"over {low:,} to {high:,}"


@dataclass(frozen=True)
class Technology:
    """Volume of some networks over an access technology, at home or abroad."""

    networks: Networks
    name: str
    gigabytes: Decimal
    gco2e: Decimal


def technologies(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], networks: Networks) -> list[Technology]:
    """Volume and its grams by access technology and roaming zone, the greatest first; small ones are told of together."""
    of_networks = f"""(SELECT *, [access_technology, roaming_zone] AS kind FROM {stage_rows(ESTIMATED, published)}
        WHERE component = 'volume' AND list_contains(?, network))"""
    query = f"""
        SELECT kind, count(DISTINCT subscription_key) AS subscriptions, sum(quantity) AS gigabytes, sum(gco2e) AS gco2e
        FROM {of_networks} GROUP BY kind ORDER BY kind"""
    kinds = {tuple(row["kind"]): row for row in rows(connection, query, [list(networks)])}

    def together(some: Collection[tuple[str, ...]]) -> int:
        ask = f"SELECT count(DISTINCT subscription_key) AS n FROM {of_networks} WHERE list_contains(?, kind)"
        return int(rows(connection, ask, [list(networks), [list(kind) for kind in some]])[0]["n"])

    joined = kinds_together({kind: row["subscriptions"] for kind, row in kinds.items()}, together)
    if joined and is_small(together(joined)):
        return []
    found = [
        Technology(networks, f"{kind[0]}, {kind[1]}", row["gigabytes"], row["gco2e"])
        for kind, row in kinds.items()
        if kind not in joined
    ]
    if joined:
        name = "all" if len(joined) == len(kinds) else f"{len(joined)} others together"
        sums = [sum((kinds[kind][measure] for kind in joined), Decimal(0)) for measure in ("gigabytes", "gco2e")]
        found.append(Technology(networks, name, *sums))
    return sorted(found, key=lambda each: (-each.gigabytes, each.name))


@dataclass(frozen=True)
class MonthShown:
    """A month as it stands: its publication, and its sums; none where figures were erased or are too few."""

    publication: Row
    totals: Sequence[Totals]


def months(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> list[MonthShown]:
    """The month of the report and those published before it, thirteen at most, the earliest first."""
    first = months_before(published["usage_month"], MONTHS_SHOWN - 1)
    query = f"""
        SELECT * FROM {PUBLICATIONS.name} WHERE usage_month >= ? AND usage_month < ?
        QUALIFY publication_id = max(publication_id) OVER (PARTITION BY usage_month) ORDER BY usage_month"""
    earlier = rows(connection, query, [first, published["usage_month"]])
    return [MonthShown(each, totals(connection, each)) for each in (*earlier, dict(published))]


def changes(shown: Sequence[MonthShown]) -> list[tuple[Totals, Totals]]:
    """Of the networks that are told of alike in the last two months, both sums; only where one follows the other."""
    for before, now in pairwise(shown[-2:]):
        if months_before(now.publication["usage_month"], 1) == before.publication["usage_month"]:
            earlier = {each.networks: each for each in before.totals}
            return [(earlier[each.networks], each) for each in now.totals if each.networks in earlier]
    return []
