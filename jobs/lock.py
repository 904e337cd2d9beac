"""One writer per lake at a time: a lock that dies with its holder, and a fence against a holder that comes back late.

Two JVMs that commit to one Delta table on a local disk can both succeed and lose a commit, so every stage that writes holds
this lock, and asks it again right before each commit.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from jobs.postgres import connect, speaking
from jobs.run import CallError, Settings
from jobs.serving_schema import prepare

_POLL_SECONDS = 0.2

_UNLIMITED = "SET idle_session_timeout = 0"
"""An idle holder is not disconnected; one whose machine vanished is after a minute, as every session is."""

_IS_OURS = """
locktype = 'advisory' AND granted AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = %(key)s
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_HOLDER = f"""
SELECT application_name, pid, to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {_IS_OURS}
"""
_REGISTER = """
INSERT INTO footprint.writers AS latest (lake_key, fence, holder, since) VALUES (%(key)s, 1, %(holder)s, now())
ON CONFLICT (lake_key) DO UPDATE SET fence = latest.fence + 1, holder = excluded.holder, since = excluded.since
RETURNING fence
"""
_STANDS = f"""
SELECT EXISTS (SELECT FROM footprint.writers WHERE lake_key = %(key)s AND fence = %(fence)s)
   AND EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND {_IS_OURS})
"""


class LakeBusy(CallError):
    """Another process writes to the lake; the message says which. Run again when it has ended."""


class LockLost(CallError):
    """This process no longer is the writer of the lake: it must not commit. Run again."""


@dataclass(frozen=True)
class Writer:
    """The right to write to a lake, for as long as it can be confirmed."""

    connection: psycopg.Connection
    key: int
    fence: int
    lake: str

    def check(self) -> None:
        """Confirm the lock right before a commit. Raises LockLost if its session ended or there was a later writer."""
        try:
            stands = self.connection.execute(_STANDS, {"key": self.key, "fence": self.fence}).fetchone()
        except psycopg.Error:
            stands = None
        if stands != (True,):
            raise LockLost(f"the lock on {self.lake} was lost (writer {self.fence}): nothing more is written; run again")


@contextmanager
def writing(settings: Settings, stage: str = "footprint", wait_s: float = 0) -> Iterator[Writer]:
    """Be the only writer of the lake inside the block.

    The lock is one of the session in PostgreSQL: it ends with the block, with the process however it dies, and with the server.

    Args:
        settings: name the lake and the server.
        stage: what the message of another process will say of this one.
        wait_s: seconds to wait for the present writer.

    Raises:
        LakeBusy: another process writes there.
    """
    holder = f"{stage} process {os.getpid()} on {socket.gethostname()}"
    key = lake_key(settings.lake)
    with closing(connect(settings, application_name=holder)) as connection:
        with speaking("taking the lock"):
            prepare(connection)
            connection.execute(_UNLIMITED)
            _take(connection, key, settings.lake, time.monotonic() + wait_s)
            registered = connection.execute(_REGISTER, {"key": key, "holder": holder}).fetchone()
        assert registered is not None
        yield Writer(connection, key, registered[0], settings.lake)


def lake_key(lake: str) -> int:
    """The advisory lock of a lake: the first 64 bits of the SHA-256 of its place, signed; a link names what it points to."""
    place = lake if "://" in lake else str(Path(lake).resolve())
    return int.from_bytes(hashlib.sha256(f"footprint:{place}".encode()).digest()[:8], "big", signed=True)


def _take(connection: psycopg.Connection, key: int, lake: str, deadline: float) -> None:
    while not _is_taken(connection, key):
        holder = connection.execute(_HOLDER, {"key": key}).fetchone()
        if time.monotonic() >= deadline and holder:
            name, pid, since = holder
            raise LakeBusy(
                f"{lake} is being written to by {name or 'another user'} "
                f"(connected since {since} UTC, PostgreSQL process {pid}): wait until it has ended, then run again"
            )
        time.sleep(_POLL_SECONDS)


def _is_taken(connection: psycopg.Connection, key: int) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone() == (True,)
