"""What usage records call the same thing in different versions: names of SAMIS-TYPE-1 and their older or vendors' forms.

Canonical are the names of SAMIS-TYPE-1 (CableLabs, DOCSIS 3.x OSSI); the others are those of the schemas of DOCSIS 1.1 and 2.0
(DOCSIS-3.1-B.0.xsd and later) and of CMTS of Cisco. Names are compared without namespace prefix and without regard to case, so
``CMTShostname`` and ``CmtsHostName`` need no line here. What only looks alike is no other name: ``CMdocsisMode`` says 1.0 or 1.1
where ``CmQosVersion`` has a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "CmtsHostName": (),
    "CmtsSysUpTime": (),
    "CmtsIpv4Addr": ("CMTSipAddress", "CMTSipv4Address"),
    "CmtsIpv6Addr": ("CMTSipv6Address",),
    "CmtsMdIfName": ("CMTScatvIfName",),
    "CmtsMdIfIndex": ("CMTScatvIfIndex",),
    "CmMacAddr": ("CMmacAddress",),
    "CmIpv4Addr": ("CMipAddress", "CMipv4Address"),
    "CmIpv6Addr": ("CMipv6Address",),
    "CmIpv6LinkLocal": ("CmIpv6LinkLocalAddr", "CMipv6LinkLocalAddress"),
    "CmQosVersion": (),
    "CmRegStatus": ("CmRegStatusValue",),
    "CmLastRegTime": (),
    "RecType": ("SFtype",),
    "RecCreationTime": (),
    "SfChSet": ("ServiceFlowChSet",),
    "ServiceAppId": (),
    "ServiceDsMulticast": (),
    "ServiceIdentifier": ("SFID",),
    "ServiceGateId": ("gateId",),
    "ServiceClassName": (),
    "ServiceDirection": ("SFdirection",),
    "ServiceOctetsPassed": ("octetsPassed",),
    "ServicePktsPassed": ("pktsPassed",),
    "ServiceSlaDropPkts": ("SLAdropPkts",),
    "ServiceSlaDelayPkts": ("SLAdelayPkts",),
    "ServiceTimeCreated": (),
    "ServiceTimeActive": (),
}
"""Each name of SAMIS-TYPE-1, in the order of its records, and what else it is called."""

SAMIS_TYPE_1 = tuple(OTHER_NAMES)

INSTEAD = {"RecCreationTime": "IPDRCreationTime"}
"""Names that stand in for another only where a record lacks that: every IPDR may have an IPDRCreationTime, and before DOCSIS 3.0
it was the time of a SAMIS record."""

_CANONICAL = {name.lower(): canonical for canonical, others in OTHER_NAMES.items() for name in (canonical, *others)}


def plain(name: str) -> str:
    """A name as it is compared: without namespace prefix, in small letters."""
    return name.rpartition(":")[2].lower()


@dataclass(frozen=True)
class Wanted:
    """Columns asked for, and where in a row a value goes by its name.

    Attributes:
        columns: as they were asked for; the first places of a row are theirs.
        places: the place of each name, compared by ``plain``.
        width: how many places a row has.
        instead: a column's place and another that fills it where it is null.
    """

    columns: tuple[str, ...]
    places: dict[str, int]
    width: int
    instead: tuple[tuple[int, int], ...]

    def batch(self, made: Sequence[pa.Array]) -> pa.RecordBatch:
        """The columns asked for, of the arrays of all places."""
        columns = list(made)
        for place, other in self.instead:
            columns[place] = pc.coalesce(columns[place], columns[other])
        return pa.RecordBatch.from_arrays(columns[: len(self.columns)], names=list(self.columns))


def wanted(columns: Sequence[str]) -> Wanted:
    """Where the values of columns are found in records of any version.

    Raises:
        ValueError: two columns are the same by other names.
    """
    places: dict[str, int] = {}
    for place, column in enumerate(columns):
        canonical = _CANONICAL.get(plain(column), column)
        names = {plain(name) for name in (canonical, *OTHER_NAMES.get(canonical, ()))}
        if doubled := sorted(names & places.keys()):
            raise ValueError(f"two columns are both {doubled[0]}")
        places |= dict.fromkeys(names, place)
    width, instead = len(columns), []
    for canonical, other in INSTEAD.items():
        if plain(canonical) in places:
            if plain(other) not in places:
                places[plain(other)] = width
                width += 1
            instead.append((places[plain(canonical)], places[plain(other)]))
    return Wanted(tuple(columns), places, width, tuple(instead))
