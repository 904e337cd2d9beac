"""What a factor in force is, in the units of the formula, and what must agree with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from decimal import Decimal

from factors.catalogue import FactorSet, Value
from factors.expression import DECIMAL_GIGABYTE, Compiled, per_decimal_gigabyte
from factors.reading import FactorError
from schemas.source import NetworkSource, Source


@dataclass(frozen=True)
class Factor:
    """One row of ``FACTORS``: the coefficient that serves a brand, network and component in a month."""

    factor_id: str
    factor_set: str
    brand: str
    network: str
    component: str
    gco2e_per_unit: Decimal
    gco2e_per_unit_low: Decimal | None
    gco2e_per_unit_high: Decimal | None
    volume_basis: str
    is_national_default: bool
    method_id: str


def factor(factor_set: FactorSet, found: Compiled, value: Value, brand: str) -> Factor:
    """The row of a value for a brand, in grams per decimal gigabyte or per subscription-month."""
    return Factor(
        factor_id=found.factor_id,
        factor_set=factor_set.name,
        brand=brand,
        network=value.network,
        component=value.component,
        gco2e_per_unit=found.per_unit.amount,
        gco2e_per_unit_low=found.per_unit.low,
        gco2e_per_unit_high=found.per_unit.high,
        volume_basis=factor_set.volume_basis,
        is_national_default=value.is_national,
        method_id=factor_set.method_id,
    )


def factors_id(factors: Iterable[Factor]) -> str:
    """Hash of the factors of a month: the first 16 hexadecimal digits of a SHA-256, in whatever order they are given."""
    rows = sorted(json.dumps([_canonical(cell) for cell in astuple(factor)], ensure_ascii=False) for factor in factors)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def _canonical(cell: object) -> object:
    return format(per_decimal_gigabyte(cell, DECIMAL_GIGABYTE), "f") if isinstance(cell, Decimal) else cell


def check_volume_basis(factors: Iterable[Factor], sources: Mapping[str, Source]) -> None:
    """Refuse factors whose A was divided by another volume than a source counts. Raises FactorError, naming source and set."""
    for factor in factors:
        for name, source in sorted(sources.items()):
            if not isinstance(source, NetworkSource) or source.network != factor.network:
                continue
            if source.volume_counted != factor.volume_basis:
                raise FactorError(
                    f"source {name} ({name}.toml): volume_counted is {source.volume_counted!r}, but factor set "
                    f"{factor.factor_set} (brand {factor.brand}, {factor.network}) has volume_basis {factor.volume_basis!r}"
                )
