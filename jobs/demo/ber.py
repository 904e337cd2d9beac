"""Charging records as octets: PGW-CDR and CHF-CDR of TS 32.298 in BER, each behind its CDR header of TS 32.297, compiled.

Elements follow in the order of their tags, with the shortest lengths and integers; what an operator's gateway would add besides
(location, quality of service, addresses of the serving node) is left out.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

LONGEST_OCTETS = 512
"""More than any record of the demo takes."""
CDR_HEADER_OCTETS = 5
_RELEASE_14, _BER, _TS_32_251, _TS_32_255 = 4, 1, 7, 20

_compiled: Any = numba.njit(cache=True)


@_compiled
def _put(out: Octets, at: int, tag: int, text: Octets) -> int:
    out[at], out[at + 1] = tag, len(text)
    at += 2
    for octet in text:
        out[at] = octet
        at += 1
    return at


@_compiled
def _put_number(out: Octets, at: int, tag: int, number: int) -> int:
    octets = 1
    while octets < 8 and number >> (8 * octets - 1) != 0:
        octets += 1
    out[at], out[at + 1] = tag, octets
    at += 2
    for place in range(octets - 1, -1, -1):
        out[at] = (number >> (8 * place)) & 0xFF
        at += 1
    return at


@_compiled
def _bcd(number: int) -> int:
    return (number // 10) << 4 | number % 10


@_compiled
def _put_time(out: Octets, at: int, tag: int, second: int, ahead: int) -> int:
    """A TimeStamp of 9 octets: local time and its offset from UTC in seconds."""
    local = second + ahead
    days, rest = local // 86_400, local % 86_400
    # A civil date from days since 1970, of the years 2000 to 2099.
    shifted = days + 719_468
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    distance = abs(ahead)
    out[at], out[at + 1] = tag, 9
    out[at + 2], out[at + 3], out[at + 4] = _bcd(year % 100), _bcd(month), _bcd(day)
    out[at + 5], out[at + 6], out[at + 7] = _bcd(rest // 3600), _bcd(rest // 60 % 60), _bcd(rest % 60)
    out[at + 8] = 0x2D if ahead < 0 else 0x2B
    out[at + 9], out[at + 10] = _bcd(distance // 3600), _bcd(distance // 60 % 60)
    return at + 11


@_compiled
def _put_tbcd(out: Octets, at: int, tag: int, digits: Octets, leads_with_type: bool) -> int:
    """Digits with swapped nibbles, F filling up the last octet; of a number in front its type, international E.164."""
    out[at] = tag
    begin = at + 2
    at = begin
    if leads_with_type:
        out[at] = 0x91
        at += 1
    for place in range(0, len(digits), 2):
        high = digits[place + 1] - 48 if place + 1 < len(digits) else 15
        out[at] = high << 4 | (digits[place] - 48)
        at += 1
    out[begin - 1] = at - begin
    return at


@_compiled
def _wrap(out: Octets, begin: int, end: int, tag: Octets) -> int:
    """Put tag and length before octets that are there; where they end then."""
    length = end - begin
    head = len(tag) + (1 if length < 128 else 2 if length < 256 else 3)
    for place in range(end - 1, begin - 1, -1):
        out[place + head] = out[place]
    at = begin
    for octet in tag:
        out[at] = octet
        at += 1
    if length >= 256:
        out[at], out[at + 1] = 0x82, length >> 8
        at += 2
    elif length >= 128:
        out[at] = 0x81
        at += 1
    out[at] = length & 0xFF
    return end + head


@_compiled
def _finish(out: Octets, begin: int, at: int, tag: Octets, standard: int) -> int:
    """Put the record's tag and its CDR header before it."""
    at = _wrap(out, begin, at, tag)
    for place in range(at - 1, begin - 1, -1):
        out[place + CDR_HEADER_OCTETS] = out[place]
    length = at - begin
    out[begin], out[begin + 1] = length >> 8, length & 0xFF
    out[begin + 2], out[begin + 3], out[begin + 4] = 0xE0 | 2, _BER << 5 | standard, _RELEASE_14
    return at + CDR_HEADER_OCTETS


@_compiled
def _part_of(octets: int, container: int, containers: int) -> int:
    """Octets of a container: where there are two, all but a sixteenth belong to the first rating group."""
    if containers == 1:
        return octets
    return octets - octets // 16 if container == 0 else octets // 16


_SEQUENCE_TAG = np.array([0x30], np.uint8)
_PGW_TAG, _SERVICE_DATA_TAG = np.array([0xBF, 0x4F], np.uint8), np.array([0xBF, 0x22], np.uint8)
_CHF_TAG = np.array([0xBF, 0x81, 0x48], np.uint8)
_SUBSCRIBER_TAG, _USAGES_TAG, _CONTAINERS_TAG = (np.array([tag], np.uint8) for tag in (0xA2, 0xA5, 0xA1))
_PDU_CONTAINER_TAG, _PDU_SESSION_TAG = np.array([0xAB], np.uint8), np.array([0xAD], np.uint8)
_CHF_NODE, _ADDRESS = np.frombuffer(b"CHF-1", np.uint8), np.array([0x80, 4, 192, 0, 2, 1], np.uint8)


@_compiled
def encode_pgw(
    imsi: Octets,
    msisdn: Octets,
    apn: Octets,
    plmn: Octets,
    node: Octets,
    numbers: Integers,
    offsets: npt.NDArray[np.int32],
    out: Octets,
) -> None:
    """PGW-CDRs one after the other.

    Args:
        imsi: a row of digits each.
        msisdn: a row of digits each, zeros for none.
        apn: a row of ASCII each, zeros after its end.
        plmn: three octets each, of the serving network.
        node: name of the gateway.
        numbers: of each record charging id, record sequence, local sequence, opened and closed in seconds UTC, seconds ahead of
            UTC, octets up and down, containers.
        offsets: is filled with where each record begins.
        out: is filled.
    """
    at = 0
    for row in range(len(numbers)):
        offsets[row] = at
        charging, sequence, local, opened, closed, ahead, up, down, containers = numbers[row]
        begin = at
        at = _put_number(out, at, 0x80, 85)
        at = _put_tbcd(out, at, 0x83, imsi[row], False)
        at = _put(out, at, 0xA4, _ADDRESS)
        at = _put_number(out, at, 0x85, charging)
        name = apn[row]
        at = _put(out, at, 0x87, name[: np.count_nonzero(name)])
        at = _put_time(out, at, 0x8D, opened, ahead)
        at = _put_number(out, at, 0x8E, closed - opened)
        at = _put_number(out, at, 0x8F, 17)
        at = _put_number(out, at, 0x91, sequence)
        at = _put(out, at, 0x92, node)
        at = _put_number(out, at, 0x94, local)
        if msisdn.shape[1] > 0 and msisdn[row, 0] != 0:
            at = _put_tbcd(out, at, 0x96, msisdn[row], True)
        at = _put(out, at, 0x9B, plmn[row])
        at = _put_number(out, at, 0x9E, 6)
        list_begin = at
        for container in range(containers):
            part_up, part_down = _part_of(up, container, containers), _part_of(down, container, containers)
            one = at
            at = _put_number(out, at, 0x81, 10 if container == 0 else 100)
            at = _put_number(out, at, 0x84, container + 1)
            at = _put_time(out, at, 0x85, opened, ahead)
            at = _put_time(out, at, 0x86, closed, ahead)
            at = _put_number(out, at, 0x8C, part_up)
            at = _put_number(out, at, 0x8D, part_down)
            at = _put_time(out, at, 0x8E, closed, ahead)
            at = _wrap(out, one, at, _SEQUENCE_TAG)
        at = _wrap(out, list_begin, at, _SERVICE_DATA_TAG)
        at = _finish(out, begin, at, _PGW_TAG, _TS_32_251)
    offsets[len(numbers)] = at


@_compiled
def encode_chf(
    imsi: Octets,
    apn: Octets,
    session: Octets,
    is_roaming: npt.NDArray[np.bool_],
    numbers: Integers,
    offsets: npt.NDArray[np.int32],
    out: Octets,
) -> None:
    """CHF-CDRs one after the other; arguments as of ``encode_pgw``, ``session`` being the charging session's identifier."""
    at = 0
    for row in range(len(numbers)):
        offsets[row] = at
        charging, sequence, local, opened, closed, ahead, up, down, containers = numbers[row]
        begin = at
        at = _put_number(out, at, 0x80, 200)
        at = _put(out, at, 0x81, _CHF_NODE)
        inner = at
        at = _put_number(out, at, 0x80, 1)
        at = _put(out, at, 0x81, imsi[row])
        at = _wrap(out, inner, at, _SUBSCRIBER_TAG)
        usages = at
        for container in range(containers):
            part_up, part_down = _part_of(up, container, containers), _part_of(down, container, containers)
            usage = at
            at = _put_number(out, at, 0x80, 10 if container == 0 else 100)
            list_begin = at
            at = _put_time(out, at, 0x83, closed, ahead)
            at = _put_number(out, at, 0x84, part_up + part_down)
            at = _put_number(out, at, 0x85, part_up)
            at = _put_number(out, at, 0x86, part_down)
            at = _put_number(out, at, 0x89, container + 1)
            pdu = at
            at = _put_time(out, at, 0x82, opened, ahead)
            at = _put_number(out, at, 0x87, 51)
            at = _wrap(out, pdu, at, _PDU_CONTAINER_TAG)
            at = _wrap(out, list_begin, at, _SEQUENCE_TAG)
            at = _wrap(out, list_begin, at, _CONTAINERS_TAG)
            at = _wrap(out, usage, at, _SEQUENCE_TAG)
        at = _wrap(out, usages, at, _USAGES_TAG)
        at = _put_time(out, at, 0x86, opened, ahead)
        at = _put_number(out, at, 0x87, closed - opened)
        at = _put_number(out, at, 0x88, sequence)
        at = _put_number(out, at, 0x89, 0)
        at = _put_number(out, at, 0x8B, local)
        pdu = at
        at = _put_number(out, at, 0x80, charging)
        if is_roaming[row]:
            at = _put_number(out, at, 0x84, 1)
        at = _put_number(out, at, 0x8C, 51)
        name = apn[row]
        at = _put(out, at, 0x8D, name[: np.count_nonzero(name)])
        at = _wrap(out, pdu, at, _PDU_SESSION_TAG)
        at = _put(out, at, 0x90, session[row])
        at = _finish(out, begin, at, _CHF_TAG, _TS_32_255)
    offsets[len(numbers)] = at
