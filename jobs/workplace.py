"""What every stage works with: settings, sources and the lake, held under the one writer's lock with the right keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from jobs import lock, pseudonyms
from jobs.lake import Lake
from jobs.legal_calendar import bounds
from jobs.meter import Month
from jobs.run import CallError, Refused, Settings
from jobs.spark import session
from schemas.source import Source, SourceError, UsageSource, read_sources
from schemas.tables import KEYS, LANDED


@dataclass(frozen=True)
class Workplace:
    """Settings, sources, lake, clock, and where progress is said."""

    settings: Settings
    sources: Mapping[str, Source]
    lake: Lake
    now: Callable[[], datetime]
    say: Callable[[str], None]

    def month(self, usage_month: date) -> Month:
        """The legal month that begins on that day."""
        legal = self.settings.legal_timezone
        return Month(usage_month, *bounds(usage_month, legal), legal.key)

    @property
    def networks(self) -> dict[str, str]:
        """Network of each usage source."""
        return {name: source.network for name, source in self.sources.items() if isinstance(source, UsageSource)}


@contextmanager
def workplace(settings: Settings, stage: str, say: Callable[[str], None]) -> Iterator[Workplace]:
    """Open the lake for writing: one writer, one Spark session, the keys the lake was written with.

    Raises:
        CallError: a source or setting cannot be used, another process writes to the lake, or a key is missing.
        Refused: the keys are not those of the lake.
    """
    try:
        sources = read_sources(settings.sources)
    except SourceError as error:
        raise CallError(str(error)) from None
    with lock.writing(settings, stage) as writer:
        lake = Lake(session(settings), settings.lake, writer.check)
        opened = Workplace(settings, sources, lake, lambda: datetime.now(UTC), say)
        _settle_keys(opened)
        yield opened


def _settle_keys(opened: Workplace) -> None:
    """Make keys for an empty lake and register them; for any other lake, refuse all but its own."""
    lake, folder = opened.lake, opened.settings.keys
    registered = {row.key_name: row.fingerprint for row in lake.read(KEYS).collect()}
    if not registered:
        if lake.exists(LANDED):
            raise Refused(f"the lake {lake.root} has data but no key fingerprints: it was not written by this system")
        pseudonyms.make_keys(folder)
        found = [pseudonyms.read_key(folder, name) for name in (pseudonyms.IDENTIFIER_KEY, pseudonyms.SERVING_KEY)]
        rows = [{"key_name": k.name, "fingerprint": k.fingerprint, "registered_at": opened.now()} for k in found]
        lake.append(KEYS, lake.rows(KEYS, rows))
        registered = {key.name: key.fingerprint for key in found}
    pseudonyms.check_fingerprints(folder, registered)
