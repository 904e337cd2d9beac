"""The first mobile brand's records as 3GPP charging records: PGW-CDRs, or CHF-CDRs of 5G."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.demo.ber import LONGEST_OCTETS, encode_chf, encode_pgw
from jobs.demo.identifiers import text
from jobs.demo.incidents import record_faults
from jobs.demo.month import Flags, Integers
from jobs.demo.sources import PgwPipe
from jobs.demo.subscribers import Subscribers
from jobs.demo.usage import Kind, Usage

Octets = npt.NDArray[np.uint8]

_NODE = np.frombuffer(b"pgw-paris-1", np.uint8)
_APNS = np.stack([np.frombuffer(name.ljust(8, b"\0"), np.uint8) for name in (b"internet", b"ims")])
_PLMNS = ("00101", "26201", "23415", "26806", "310410", "40410", "44010")
"""Home network and visited networks, in the order of VISITED."""


@dataclass(frozen=True)
class _ChargingRecords(PgwPipe):
    """Records numbered without a gap by the node that writes them."""

    written: list[int] = field(default_factory=lambda: [0])

    def numbered(self, usage: Usage) -> Usage:
        """The node's local sequence numbers, one more each."""
        first = self.written[0] + 1
        self.written[0] += len(usage)
        return replace(usage, serial=np.arange(first, first + len(usage), dtype=np.int64))

    def earlier(self, who: Subscribers, usage: Usage) -> list[bytes]:
        """The same records with half of the octets down."""
        lines: list[bytes] = self.lines(who, replace(usage, down=usage.down // 2), np.zeros(len(usage), bool)).to_pylist()
        return lines

    def lines(self, who: Subscribers, usage: Usage, is_lost: Flags) -> pa.Array:
        """A record each, with its CDR header."""
        offsets = np.empty(len(usage) + 1, np.int32)
        out = np.empty(len(usage) * LONGEST_OCTETS, np.uint8)
        self._encode(who, usage, offsets, out)
        return pa.Array.from_buffers(
            pa.binary(), len(usage), [None, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]].copy())]
        )

    @abstractmethod
    def _encode(self, who: Subscribers, usage: Usage, offsets: npt.NDArray[np.int32], out: Octets) -> None:
        """Fill ``out`` with the records."""

    def _numbers(self, usage: Usage) -> Integers:
        """As ``encode_pgw`` takes them. What straddles a month end has one container: a split is floored by container."""
        is_cut = self.crosses(self.plan.month.start, usage) | self.crosses(self.plan.month.end, usage)
        containers = np.where((usage.serial % 3 == 0) & ~is_cut, 2, 1)
        ahead = self.clocks.offset(usage.zone, usage.opened)
        charging = (usage.holder % 2**31 + usage.opened) % 2**32
        sequence = usage.opened // self.plan.slot_seconds % self.plan.records_per_day + 1
        columns = (charging, sequence, usage.serial, usage.opened, usage.closed, ahead, usage.up, usage.down, containers)
        return np.stack([np.asarray(column, np.int64) for column in columns], axis=1)

    def _digits(self, who: Subscribers, usage: Usage) -> tuple[Octets, Octets]:
        """MSISDN and IMSI of each record, a row of digits; zeros for a stranger's MSISDN."""
        msisdn, imsi = (_rows(names) for names in self.identifiers(who, usage))
        place = usage.name(len(who))
        return msisdn[place], imsi[place]

    def _apns(self, usage: Usage) -> Octets:
        apns: Octets = _APNS[(usage.kind == Kind.IMS).astype(np.int64)]
        return apns


def _rows(texts: pa.Array) -> Octets:
    """Texts of one length, a row each; zeros where one is empty."""
    width = max((len(value) for value in texts[:1].to_pylist()), default=0)
    octets = np.frombuffer("".join(texts.to_pylist()).encode(), np.uint8)
    rows = np.zeros((len(texts), width), np.uint8)
    is_given = np.array([bool(value) for value in texts.to_pylist()])
    rows[is_given] = octets.reshape(-1, width)
    return rows


class PgwRecords(_ChargingRecords):
    """PGW-CDRs in TS 32.297 files."""

    name = "pgw_ts32297"
    faults = record_faults(0x8D)

    def _encode(self, who: Subscribers, usage: Usage, offsets: npt.NDArray[np.int32], out: Octets) -> None:
        msisdn, imsi = self._digits(who, usage)
        plmns = np.array([_plmn(digits) for digits in _PLMNS], np.uint8)
        encode_pgw(imsi, msisdn, self._apns(usage), plmns[usage.zone], _NODE, self._numbers(usage), offsets, out)


class ChfRecords(_ChargingRecords):
    """CHF-CDRs in TS 32.297 files."""

    name = "chf_ts32297"
    faults = record_faults(0x86)

    def _encode(self, who: Subscribers, usage: Usage, offsets: npt.NDArray[np.int32], out: Octets) -> None:
        _, imsi = self._digits(who, usage)
        session = _rows(pa.compute.utf8_lpad(text(usage.serial), 12, "0"))
        encode_chf(imsi, self._apns(usage), session, usage.zone > 0, self._numbers(usage), offsets, out)


def _plmn(digits: str) -> list[int]:
    """MCC and MNC as three octets (TS 24.008 §10.5.1.3)."""
    mcc, mnc = digits[:3], digits[3:].ljust(3, "F")
    nibbles: Any = [int(nibble, 16) for nibble in (mcc[1], mcc[0], mnc[2], mcc[2], mnc[1], mnc[0])]
    return [nibbles[0] << 4 | nibbles[1], nibbles[2] << 4 | nibbles[3], nibbles[4] << 4 | nibbles[5]]
