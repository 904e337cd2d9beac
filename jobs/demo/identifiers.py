"""How identifiers are written: all of them from ranges that no real subscriber has."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from jobs.demo.month import Integers
from jobs.demo.plan import Plan


def text(numbers: Integers) -> pa.Array:
    """Numbers in decimal digits."""
    return pc.cast(pa.array(numbers), pa.string())


def msisdns(plan: Plan, numbers: Integers) -> pa.Array:
    """Numbers in E.164 digits, from the test range +33 6 39 98, with more digits than France has if there are many."""
    return pc.binary_join_element_wise("3363998", _padded(numbers, _msisdn_width(plan)), "")


def imsis(numbers: Integers, network: str = "00101") -> pa.Array:
    """IMSI of a network, the test network 001-01 by default."""
    return pc.binary_join_element_wise(network, _padded(numbers, 10), "")


def line_ids(numbers: Integers) -> pa.Array:
    """Line identifiers: L and nine digits."""
    return pc.binary_join_element_wise("L", _padded(numbers, 9), "")


def macs(numbers: Integers) -> pa.Array:
    """Addresses of cable modems, locally administered: 02, then ten digits."""
    return pc.binary_join_element_wise("02", _padded(numbers, 10), "")


def subscription_ids(numbers: Integers) -> pa.Array:
    """Subscription identifiers: S and ten digits."""
    return pc.binary_join_element_wise("S", _padded(numbers, 10), "")


def unknown_numbers(plan: Plan, numbers: Integers, identifier_type: str) -> Integers:
    """Numbers of identifiers that no subscription holds."""
    if identifier_type == "msisdn":
        largest: int = 10 ** _msisdn_width(plan) - 1
        return largest - numbers
    return {"imsi": 9 * 10**9, "line_id": 9 * 10**8}[identifier_type] + numbers


def _msisdn_width(plan: Plan) -> int:
    return max(4, len(str(2 * plan.subscriptions)))


def _padded(numbers: Integers, width: int) -> pa.Array:
    return pc.utf8_lpad(text(numbers), width, "0")
