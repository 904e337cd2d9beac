"""The way to PostgreSQL: the server that the settings name, or else the embedded one, and its errors without values."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobs import embedded
from jobs.run import CallError, Refused, Settings

OLDEST_VERSION = 14
_SECRETS = ("password", "sslpassword")
_KEPT_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""A vanished server is noticed after about a minute, not after the two hours of the operating system."""
_OF_SESSION = (
    "SET timezone TO 'UTC'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)
"""The server notices a vanished client as soon, and lets go of what it had locked."""


def connect(settings: Settings, application_name: str = "footprint") -> psycopg.Connection:
    """Connect in autocommit mode and UTC, starting the embedded server if it is the one and does not run.

    Raises:
        CallError: no server answers there, it refuses the user, or it is older than version 14.
    """
    url = settings.serving_url or embedded.start(_folder(settings))
    parameters = _parameters(url)
    try:
        connection = psycopg.connect(
            **{"connect_timeout": 10, **_KEPT_ALIVE, **parameters, "application_name": application_name},
            autocommit=True,
            prepare_threshold=None,
        )
        connection.execute(_OF_SESSION)
    except psycopg.Error as error:
        raise CallError(_unreachable(parameters, error)) from None
    version = connection.info.server_version // 10_000
    if version < OLDEST_VERSION:
        connection.close()
        raise CallError(f"PostgreSQL {version} at {_place(parameters)} is too old: version {OLDEST_VERSION} or later is needed")
    return connection


def url(settings: Settings, role: str | None = None) -> str:
    """Where the server is, without a password; for the embedded one, as the role would reach it.

    Raises:
        CallError: the embedded server does not run, or a role was asked for on a server that is not ours.
    """
    if settings.serving_url:
        if role:
            raise CallError(f"FOOTPRINT_SERVING_URL is set: its administrator grants {role} to a user of your own")
        return _without_password(settings.serving_url)
    running = embedded.url(_folder(settings), role or embedded.SUPERUSER)
    if not running:
        raise CallError("the embedded PostgreSQL does not run: start it with `footprint serving start`")
    return running


def start_embedded(settings: Settings) -> None:
    """Start the embedded server unless it runs. Raises CallError if FOOTPRINT_SERVING_URL names another."""
    embedded.start(_embedded_folder(settings, "start"))


def begin_embedded(settings: Settings) -> None:
    """Begin to start the embedded server, if it is the one, while something else goes on; who connects waits for it."""

    def start() -> None:
        with suppress(Exception):
            start_embedded(settings)

    if not settings.serving_url:
        threading.Thread(target=start, daemon=True).start()


def stop_embedded(settings: Settings) -> bool:
    """Stop the embedded server; False if it did not run. Raises CallError if FOOTPRINT_SERVING_URL names another."""
    return embedded.stop(_embedded_folder(settings, "stop"))


@contextmanager
def speaking(what: str) -> Iterator[None]:
    """Turn an error of PostgreSQL into one sentence without values: Refused for the data, CallError for the rest.

    DETAIL and CONTEXT quote rows, and the message of a data exception (SQLSTATE 22) quotes the value: none is passed on.
    """
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or "08000"
        name = type(error).__name__
        said = error.diag.message_primary or "the connection was lost"
        if state.startswith("22"):
            raise Refused(f"{what}: PostgreSQL refused a value ({state} {name})") from None
        if state.startswith("23"):
            raise Refused(f"{what}: {said} ({state} {name})") from None
        raise CallError(f"{what}: {said} ({state} {name})") from None


def _folder(settings: Settings) -> Path:
    return (settings.var / "serving").resolve()


def _embedded_folder(settings: Settings, verb: str) -> Path:
    if settings.serving_url:
        raise CallError(f"FOOTPRINT_SERVING_URL is set: {verb} that server yourself, or unset it to use the embedded one")
    return _folder(settings)


def _parameters(url: str) -> dict[str, Any]:
    # A password with an unescaped @ or / ends up in host, port or database, and from there in libpq's messages.
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parameters = {"port": "unreadable"}
    host, port, database = (str(parameters.get(name) or "") for name in ("host", "port", "dbname"))
    if "@" in host + database or not (port or "0").replace(",", "").isdigit():
        raise CallError(
            "FOOTPRINT_SERVING_URL is not a PostgreSQL URL: write postgresql://user:password@host:5432/database, "
            "with %40 for an @ and %2F for a / in the password"
        )
    return parameters


def _place(parameters: dict[str, Any]) -> str:
    return f"{parameters.get('host', 'localhost')}:{parameters.get('port', 5432)}/{parameters.get('dbname', '')}"


def _unreachable(parameters: dict[str, Any], error: psycopg.Error) -> str:
    said = (str(error).strip().splitlines() or ["no answer"])[-1]
    for secret in filter(None, map(parameters.get, _SECRETS)):
        said = said.replace(secret, "…")
    return (
        f"PostgreSQL cannot be used at {_place(parameters)}: {said}; "
        "correct FOOTPRINT_SERVING_URL, or unset it to use the embedded server"
    )


def _without_password(url: str) -> str:
    parameters = _parameters(url)
    if not any(name in parameters for name in _SECRETS):
        return url
    return make_conninfo(**{name: value for name, value in parameters.items() if name not in _SECRETS})
