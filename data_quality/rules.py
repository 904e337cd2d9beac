"""The rules a month must meet, read from ``limits.toml``: what is measured, and what it may be."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

LIMITS = Path(__file__).with_name("limits.toml")
EVERY_NETWORK = "all"
MARKS = {
    "V": "read in the primary text",
    "V2": "secondary source only",
    "D": "own arithmetic",
    "R": "recalled, not looked up",
    "?": "not verified",
}
"""How a published figure or a band was checked."""
SLIPS = {
    8: "bits and bytes",
    1_000: "a step of kilo, mega, giga",
    1_000_000: "two steps of kilo, mega, giga",
    1_000_000_000: "bytes and gigabytes",
}
"""Mistakes of a unit by what they multiply with."""


@dataclass(frozen=True)
class Rule:
    """One rule, for one network or for every one.

    Args:
        name: what is measured.
        network: fixed, mobile, or None where the rule is the same for each.
        lowest: least value that passes; None if there is none.
        highest: greatest value that passes; None if there is none.
        unit: unit of the value.
        is_blocking: a failure stops publication.
        plausible_from: subscriptions from which on the rule can block.
        description: the rule in a sentence.
        source: where the limit comes from; None where it follows from the rule itself.
        mark: how a band with a source was checked; one of ``MARKS``.
    """

    name: str
    network: str | None
    lowest: Decimal | None
    highest: Decimal | None
    unit: str
    is_blocking: bool
    plausible_from: int
    description: str
    source: str | None
    mark: str | None = None

    def passes(self, measured: Decimal) -> bool:
        """The value lies within the limits."""
        return (self.lowest is None or self.lowest <= measured) and (self.highest is None or measured <= self.highest)

    def slip(self, measured: Decimal) -> str | None:
        """The mistake of a unit that would explain a value outside its band; None if none would, or it is inside.

        >>> mobile = Rule("mean_gigabytes_per_subscription", "mobile", Decimal(4), Decimal(50), "GB", True, 0, "", None)
        >>> mobile.slip(Decimal(112))
        '8 times too much: bits and bytes?'
        """
        if self.highest is None or not self.highest or self.passes(measured):
            return None
        for times, meaning in SLIPS.items():
            if measured > self.highest and self.passes(measured / times):
                return f"{times:,} times too much: {meaning}?"
            if measured and measured < self.highest and self.passes(measured * times):
                return f"{times:,} times too little: {meaning}?"
        return None


def read_rules(path: Path = LIMITS) -> dict[tuple[str, str | None], Rule]:
    """Every rule by name and network."""
    declared = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    rules = [rule for name, settings in declared.items() for rule in _rules(name, settings)]
    return {(rule.name, rule.network): rule for rule in rules}


def rule_for(rules: dict[tuple[str, str | None], Rule], name: str, network: str) -> Rule:
    """The rule of that name for a network. Raises KeyError where none is declared."""
    return rules.get((name, network)) or rules[(name, None)]


def _rules(name: str, settings: dict[str, Any]) -> Iterator[Rule]:
    if "unit" in settings:
        yield _rule(name, None, settings)
        return
    for network, own in settings.items():
        yield _rule(name, network, own)


def _rule(name: str, network: str | None, settings: dict[str, Any]) -> Rule:
    def limit(end: str) -> Decimal | None:
        return Decimal(settings[end]) if end in settings else None

    return Rule(
        name,
        network,
        limit("lowest"),
        limit("highest"),
        settings["unit"],
        settings["blocking"],
        settings.get("plausible_from", 0),
        settings["description"],
        settings.get("source"),
        settings.get("mark"),
    )
