"""One turn: the records of a source on one day for one chunk of subscriptions, delivered with their incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.demo.incidents import CONFLICT_DAY, Fate, fates, undisturbed
from jobs.demo.month import Flags, Integers
from jobs.demo.sources import Source
from jobs.demo.subscribers import Subscribers
from jobs.demo.usage import Usage


@dataclass(frozen=True)
class Turn:
    """Records, what happens to each of them, and the fault of each corrupt one by its position."""

    source: Source
    day: int
    chunk: int
    who: Subscribers
    usage: Usage
    fate: Integers
    faults: dict[int, str]
    has_nobody: bool = True

    @classmethod
    def of(cls, source: Source, day: int, chunk: int, who: Subscribers) -> Turn:
        """The turn of those of a chunk whose records the source carries."""
        random = source.plan.random(source.purpose, day, chunk)
        carried = who.where(source.carries(who))
        usage = source.usage(day, chunk, carried, random)
        fate = fates(usage, source.plan.month, bool(source.faults.names), random)
        turn = cls(source, day, chunk, carried, usage, fate, {})
        turn._arrange_certain_incidents()
        turn._name_faults()
        return turn

    def parts(self, sources: Sequence[Source]) -> Iterator[Turn]:
        """The turn shared out among sources that carry the same records in other formats, by whose records they are."""
        if len(sources) == 1:
            yield replace(self, source=sources[0], usage=sources[0].numbered(self.usage))
            return
        numbers = np.where(self.usage.is_strange, self.usage.stranger, self.who.index[self.usage.holder])
        for carrier, source in enumerate(sources):
            chosen = np.flatnonzero(numbers % len(sources) == carrier)
            places = {position: place for place, position in enumerate(chosen.tolist())}
            faults = {places[position]: name for position, name in self.faults.items() if position in places}
            usage = source.numbered(self.usage.where(chosen))
            yield replace(
                self,
                source=source,
                usage=usage,
                fate=self.fate[chosen],
                faults=faults,
                has_nobody=self.has_nobody and not carrier,
            )

    def _arrange_certain_incidents(self) -> None:
        """What occurs in every demo, however small it is."""
        faults, due = self.source.faults, self.source.faults.due(self.day, self.chunk)
        if due in faults.of_records | faults.of_empty_records:
            chosen = self._undisturbed(is_empty=due in faults.of_empty_records)
            self.fate[chosen] = Fate.CORRUPT
            self.faults.update(dict.fromkeys(chosen.tolist(), str(due)))
        if faults.conflicting is not None and (self.day, self.chunk) == (CONFLICT_DAY, 0):
            self.fate[self._undisturbed(is_empty=False)] = Fate.CONFLICTING

    def _undisturbed(self, is_empty: bool) -> Integers:
        """One such record, another subscription's every day; none if there is none."""
        found = undisturbed(self.usage, self.fate, self.source.plan.month, is_empty)
        return found[len(found) * self.day // self.source.plan.file_days :][:1]

    def _name_faults(self) -> None:
        kinds = list(self.source.faults.of_records)
        for position in np.flatnonzero(self.fate == Fate.CORRUPT).tolist():
            self.faults.setdefault(position, kinds[position % len(kinds)])

    @property
    def fault_of_nobody(self) -> str | None:
        """The line that belongs to nobody and is due in this turn."""
        due = self.source.faults.due(self.day, self.chunk)
        return due if self.has_nobody and due in self.source.faults.of_nobody else None

    def corrupt(self) -> Counter[str]:
        """How many records are corrupt, by fault."""
        names = [*self.faults.values(), *([self.fault_of_nobody] if self.fault_of_nobody else [])]
        return Counter({"corrupt_records": len(names)}) + Counter(f"corrupt_{name}" for name in names)

    def deliver(self, now: list[Any], later: list[Any]) -> None:
        """Write the records into the files of the day and the late ones: one of each, or home and roaming."""
        lines = self.source.lines(self.who, self.usage, self.fate == Fate.CORRUPT)
        for position, (of_day, late) in enumerate(zip(now, later, strict=True)):
            is_here = (self.usage.zone > 0) == bool(position) if len(now) > 1 else np.full(len(self.usage), True)
            _write(of_day, lines, is_here & (self.fate <= Fate.REPEATED_LATE))
            _write(of_day, lines, is_here & (self.fate == Fate.REPEATED))
            _write(late, lines, is_here & np.isin(self.fate, (Fate.REPEATED_LATE, Fate.LATE, Fate.CONFLICTING)))
            self._write_damaged(of_day, lines, is_here)
        if self.fault_of_nobody:
            now[0].write_line(self.source.faults.of_nobody[self.fault_of_nobody])

    def _write_damaged(self, delivery: Any, lines: Any, is_here: Flags) -> None:
        for position, name in self.faults.items():
            if is_here[position]:
                self.source.deliver_damaged(delivery, lines, position, name)
        chosen = is_here & (self.fate == Fate.CONFLICTING)
        for line in self.source.earlier(self.who, self.usage.where(chosen)) if chosen.any() else ():
            delivery.write_line(line)


def _write(delivery: Any, lines: Any, chosen: Flags) -> None:
    if chosen.any():
        delivery.write(lines.filter(pa.array(chosen)))
