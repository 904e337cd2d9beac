"""What every stage works with: settings, sources and the lake, held under the one writer's lock with the right keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from jobs import lock, pseudonyms
from jobs.lake import Lake
from jobs.legal_calendar import Month, bounds
from jobs.pseudonyms import Keys, Term
from jobs.run import CallError, Refused, Settings
from jobs.spark import Session
from schemas.source import NetworkSource, Source, SourceError, read_sources
from schemas.tables import KEYS, LANDED


@dataclass(frozen=True)
class Workplace:
    """Settings, sources, lake, keys by name, clock, and where progress is said."""

    settings: Settings
    sources: Mapping[str, Source]
    lake: Lake
    keys: Mapping[str, Keys]
    now: Callable[[], datetime]
    say: Callable[[str], None]

    def month(self, usage_month: date) -> Month:
        """The legal month that begins on that day."""
        legal = self.settings.legal_timezone
        return Month(usage_month, *bounds(usage_month, legal), legal.key)

    def keys_from(self, usage_month: date) -> date:
        """First month of the keys that serve a month, as rows of ``subscriptions`` name them."""
        return max(term.serves_from for keys in self.keys.values() for term in keys.terms if term.serves_from <= usage_month)

    @property
    def networks(self) -> dict[str, str]:
        """Network of each usage source."""
        return {name: source.network for name, source in self.sources.items() if isinstance(source, NetworkSource)}


@contextmanager
def workplace(settings: Settings, stage: str, say: Callable[[str], None], session: Session | None = None) -> Iterator[Workplace]:
    """Open the lake for writing: one writer, the keys the lake was written with, one Spark session, once it is asked for.

    Raises:
        CallError: a source or setting cannot be used, another process writes to the lake, or a key is missing.
        Refused: the keys are not those of the lake.
    """
    if "://" not in settings.lake and Path(settings.lake).is_relative_to(settings.scenarios):
        raise CallError(f"FOOTPRINT_LAKE: {settings.lake} is of a scenario, which is no lake: nothing of it can be published")
    try:
        sources = read_sources(settings.sources)
    except SourceError as error:
        raise CallError(str(error)) from None
    with lock.writing(settings, stage) as writer:
        lake = Lake(session or Session(settings), settings.lake, writer.check)
        keys = _settle_keys(lake, settings.keys, datetime.now(UTC))
        yield Workplace(settings, sources, lake, keys, lambda: datetime.now(UTC), say)


def rotate_key(opened: Workplace, name: str, serves_from: date) -> pseudonyms.Term:
    """Make a key that serves from a month on; earlier months keep theirs.

    The month must lie ahead: nothing of it can have been read under the key before, and its own export of assignments, which
    lists whoever it concerns, is yet to come.

    Raises:
        Refused: the month has begun, or a key serves from that month or a later one.
    """
    if opened.month(serves_from).begin <= opened.now():
        raise Refused(f"{serves_from:%Y-%m} has begun: what was read of it has the key before; choose a month that lies ahead")
    terms = opened.keys[name].terms
    if terms[-1].serves_from >= serves_from:
        raise Refused(f"the {name} key was rotated from {terms[-1].serves_from:%Y-%m} on: choose a later month")
    term = pseudonyms.make_key(opened.settings.keys, name, serves_from)
    _register(opened.lake, [term], opened.now())
    return term


def _settle_keys(lake: Lake, folder: Path, now: datetime) -> dict[str, Keys]:
    """Make keys for an empty lake and register them; for any other lake, refuse all but its own."""
    rows = sorted(lake.small(KEYS), key=lambda row: (row.key_name, row.serves_from))
    terms = [Term(row.key_name, row.serves_from, row.fingerprint) for row in rows]
    if not terms:
        if lake.exists(LANDED):
            raise Refused(f"the lake {lake.root} has data but no key fingerprints: it was not written by this system")
        terms = [pseudonyms.make_key(folder, name, pseudonyms.FROM_THE_BEGINNING) for name in pseudonyms.NAMES]
        _register(lake, terms, now)
    pseudonyms.check_fingerprints(folder, terms)
    return {name: Keys(folder, tuple(term for term in terms if term.name == name)) for name in pseudonyms.NAMES}


def _register(lake: Lake, terms: Sequence[Term], now: datetime) -> None:
    rows = [{"key_name": t.name, "serves_from": t.serves_from, "fingerprint": t.fingerprint, "registered_at": now} for t in terms]
    lake.append_rows(KEYS, rows)
