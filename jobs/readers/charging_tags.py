"""Which elements of a 3GPP charging record are read, and as what: tag numbers of TS 32.298 V18.8.0, §5.

Every element that is not named here is stepped over. What is stepped over on purpose, because it holds octets that are counted
elsewhere already: reports of secondary RAT usage (§5.1.2.2.23A), usage per QoS flow of roaming (§5.1.5), octets never sent
downlink (§5.1.2.2.53).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

RecordType = Literal["pgw", "sgw", "ggsn", "egsn", "sgsn", "chf", "other"]


class Action(IntEnum):
    """What is done with an element."""

    SKIP = 0
    INTEGER = 1
    VOLUME = 2
    INSTANT = 3
    SPAN = 4
    ENTER = 5
    CONTAINER = 6


class Context(IntEnum):
    """Structures whose elements are told apart."""

    SKIPPED = 0
    PGW = 1
    SGW = 2
    GGSN = 3
    SGSN = 4
    CHF = 5
    TRAFFIC_VOLUMES = 6
    CHANGE_OF_CHAR_CONDITION = 7
    SERVICE_DATA = 8
    CHANGE_OF_SERVICE_CONDITION = 9
    MULTIPLE_UNIT_USAGES = 10
    MULTIPLE_UNIT_USAGE = 11
    USED_UNIT_CONTAINERS = 12
    USED_UNIT_CONTAINER = 13
    PDU_CONTAINER = 14
    SUBSCRIBER = 15
    PDU_SESSION = 16
    USER = 17
    ADDRESS = 18
    CONSUMER = 19


INTEGERS = (
    "recordType",
    "chargingID",
    "recordOpeningTime",
    "duration",
    "causeForRecClosing",
    "recordSequenceNumber",
    "localSequenceNumber",
    "rATType",
    "stopTime",
    "subscriberType",
    "userRoamerInOut",
)
"""Numbers and instants of a record, by their names in TS 32.298."""

SPANS = (
    "servedIMSI",
    "servedMSISDN",
    "accessPointNameNI",
    "nodeID",
    "servingNodePLMNIdentifier",
    "gatewayAddress",
    "chargingSessionIdentifier",
    "subscriberData",
    "userMSISDN",
)
"""Elements of a record whose octets are looked at afterwards."""

CONTAINER = (
    "kind",
    "ratingGroup",
    "serviceIdentifier",
    "up",
    "down",
    "total",
    "first",
    "last",
    "reported",
    "localSequenceNumber",
    "rATType",
)
"""Numbers of a container."""

TRAFFIC_VOLUME, SERVICE_DATA, UNIT_USAGE = 1, 2, 3
"""Kinds of container: ChangeOfCharCondition, ChangeOfServiceCondition, UsedUnitContainer."""

UNIVERSAL = 256
"""Added to the number of a universal tag, so that it is not taken for one of the context."""
SEQUENCE = UNIVERSAL + 16
TAGS = 512


@dataclass(frozen=True)
class RecordForm:
    """A kind of record: its name, the tag it begins with, and where its elements are told apart."""

    name: RecordType
    tag: int
    context: Context


FORMS = (
    RecordForm("sgsn", 20, Context.SGSN),
    RecordForm("ggsn", 21, Context.GGSN),
    RecordForm("egsn", 70, Context.GGSN),
    RecordForm("sgw", 78, Context.SGW),
    RecordForm("pgw", 79, Context.PGW),
    RecordForm("chf", 200, Context.CHF),
)
"""The records that are read. GGSN and eG-CDR tags are recalled, not verified (``formats`` §3.1)."""

KNOWN_TAGS = (*range(20, 31), *range(70, 111), 200)
"""Tags of every alternative of GPRSRecord and CHFRecord: such a record begins with one of them."""


def _integer(name: str) -> tuple[int, int]:
    return Action.INTEGER, INTEGERS.index(name)


def _instant(name: str) -> tuple[int, int]:
    return Action.INSTANT, INTEGERS.index(name)


def _span(name: str) -> tuple[int, int]:
    return Action.SPAN, SPANS.index(name)


def _enter(context: Context) -> tuple[int, int]:
    return Action.ENTER, context


def _container(context: Context) -> tuple[int, int]:
    return Action.CONTAINER, context


def _of_container(action: Action, name: str) -> tuple[int, int]:
    return action, len(INTEGERS) + CONTAINER.index(name)


_GATEWAY = {
    0: _integer("recordType"),
    3: _span("servedIMSI"),
    4: _enter(Context.ADDRESS),
    5: _integer("chargingID"),
    7: _span("accessPointNameNI"),
    12: _enter(Context.TRAFFIC_VOLUMES),
    13: _instant("recordOpeningTime"),
    14: _integer("duration"),
    15: _integer("causeForRecClosing"),
    17: _integer("recordSequenceNumber"),
    18: _span("nodeID"),
    20: _integer("localSequenceNumber"),
    22: _span("servedMSISDN"),
    27: _span("servingNodePLMNIdentifier"),
    30: _integer("rATType"),
}

_ELEMENTS: dict[Context, dict[int, tuple[int, int]]] = {
    Context.PGW: _GATEWAY | {34: _enter(Context.SERVICE_DATA), 39: _instant("stopTime")},
    Context.SGW: _GATEWAY | {39: _instant("stopTime")},
    # eG-CDR: as the PGW-CDR, which succeeded it, but for the service data (recalled, not verified).
    Context.GGSN: _GATEWAY | {34: _enter(Context.SERVICE_DATA)},
    Context.SGSN: {
        0: _integer("recordType"),
        3: _span("servedIMSI"),
        10: _integer("chargingID"),
        11: _enter(Context.ADDRESS),
        12: _span("accessPointNameNI"),
        15: _enter(Context.TRAFFIC_VOLUMES),
        16: _instant("recordOpeningTime"),
        17: _integer("duration"),
        19: _integer("causeForRecClosing"),
        21: _integer("recordSequenceNumber"),
        22: _span("nodeID"),
        24: _integer("localSequenceNumber"),
        27: _span("servedMSISDN"),
        29: _integer("rATType"),
        38: _span("servingNodePLMNIdentifier"),
    },
    Context.ADDRESS: dict.fromkeys(range(4), _span("gatewayAddress")),
    Context.TRAFFIC_VOLUMES: {SEQUENCE: _container(Context.CHANGE_OF_CHAR_CONDITION)},
    Context.CHANGE_OF_CHAR_CONDITION: {
        3: _of_container(Action.VOLUME, "up"),
        4: _of_container(Action.VOLUME, "down"),
        6: _of_container(Action.INSTANT, "reported"),
        15: _of_container(Action.INTEGER, "rATType"),
    },
    Context.SERVICE_DATA: {SEQUENCE: _container(Context.CHANGE_OF_SERVICE_CONDITION)},
    Context.CHANGE_OF_SERVICE_CONDITION: {
        1: _of_container(Action.INTEGER, "ratingGroup"),
        4: _of_container(Action.INTEGER, "localSequenceNumber"),
        5: _of_container(Action.INSTANT, "first"),
        6: _of_container(Action.INSTANT, "last"),
        12: _of_container(Action.VOLUME, "up"),
        13: _of_container(Action.VOLUME, "down"),
        14: _of_container(Action.INSTANT, "reported"),
        17: _of_container(Action.INTEGER, "serviceIdentifier"),
        30: _of_container(Action.INTEGER, "rATType"),
    },
    Context.CHF: {
        0: _integer("recordType"),
        1: _span("nodeID"),
        2: _enter(Context.SUBSCRIBER),
        5: _enter(Context.MULTIPLE_UNIT_USAGES),
        6: _instant("recordOpeningTime"),
        7: _integer("duration"),
        8: _integer("recordSequenceNumber"),
        9: _integer("causeForRecClosing"),
        11: _integer("localSequenceNumber"),
        13: _enter(Context.PDU_SESSION),
        16: _span("chargingSessionIdentifier"),
        27: _integer("chargingID"),
    },
    Context.SUBSCRIBER: {0: _integer("subscriberType"), 1: _span("subscriberData")},
    Context.PDU_SESSION: {
        1: _enter(Context.USER),
        4: _integer("userRoamerInOut"),
        12: _integer("rATType"),
        13: _span("accessPointNameNI"),
        27: _span("servingNodePLMNIdentifier"),
    },
    Context.USER: {3: _span("userMSISDN")},
    Context.MULTIPLE_UNIT_USAGES: {SEQUENCE: _enter(Context.MULTIPLE_UNIT_USAGE)},
    Context.MULTIPLE_UNIT_USAGE: {
        0: _of_container(Action.INTEGER, "ratingGroup"),
        1: _enter(Context.USED_UNIT_CONTAINERS),
    },
    Context.USED_UNIT_CONTAINERS: {SEQUENCE: _container(Context.USED_UNIT_CONTAINER)},
    Context.USED_UNIT_CONTAINER: {
        3: _of_container(Action.INSTANT, "reported"),
        4: _of_container(Action.VOLUME, "total"),
        5: _of_container(Action.VOLUME, "up"),
        6: _of_container(Action.VOLUME, "down"),
        9: _of_container(Action.INTEGER, "localSequenceNumber"),
        11: _enter(Context.PDU_CONTAINER),
    },
    Context.PDU_CONTAINER: {
        2: _of_container(Action.INSTANT, "first"),
        3: _of_container(Action.INSTANT, "last"),
        7: _of_container(Action.INTEGER, "rATType"),
    },
}

_KIND_OF = {
    Context.CHANGE_OF_CHAR_CONDITION: TRAFFIC_VOLUME,
    Context.CHANGE_OF_SERVICE_CONDITION: SERVICE_DATA,
    Context.USED_UNIT_CONTAINER: UNIT_USAGE,
}


def action_table() -> npt.NDArray[np.int16]:
    """Action, argument and kind of container by context and tag."""
    table = np.zeros((len(Context), TAGS, 3), np.int16)
    for context, elements in _ELEMENTS.items():
        for tag, (action, argument) in elements.items():
            kind = _KIND_OF.get(Context(argument), 0) if action == Action.CONTAINER else 0
            table[context, tag] = (action, argument, kind)
    return table


def form_table() -> npt.NDArray[np.int16]:
    """By tag: -1 if no record begins with it, 0 for a record that is not read, else the position in FORMS, from 1."""
    table = np.full(TAGS, -1, np.int16)
    table[list(KNOWN_TAGS)] = 0
    for position, form in enumerate(FORMS, start=1):
        table[form.tag] = position
    return table


def context_table() -> npt.NDArray[np.int16]:
    """Context of each form, by its position in FORMS from 1; 0 for records that are not read."""
    return np.array([Context.SKIPPED, *(form.context for form in FORMS)], np.int16)
