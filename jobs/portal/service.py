"""The service: ``GET /`` shows a subscription's page to whoever brings its token, ``POST /feedback`` counts an answer.

Read-only but for that answer; no cookie, no session, no script, nothing of a request in the log. TLS, and limits on requests,
are for the proxy in front of it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from threading import Lock
from urllib.parse import parse_qs, urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from jobs.portal import rows
from jobs.portal.equivalences import Equivalences, equivalences
from jobs.portal.hardened import Hardened
from jobs.portal.page import Service, notice, page
from jobs.portal.tokens import NotAllowed, Tokens, tokens
from jobs.portal.wording import LANGUAGES, said
from jobs.run import CallError, Refused, Settings, usage_month
from jobs.serving_schema import FEEDBACK_REASONS

_LONGEST_FORM_OCTETS = 4096
_log = logging.getLogger(__name__)


class BadRequest(Exception):
    """The request is not one that the page makes."""


def application(settings: Settings) -> Starlette:
    """The service on the PostgreSQL copy of the settings. Raises CallError if it may not be served from there."""
    rows.connect(settings).close()
    portal = Portal(settings, tokens(settings), equivalences(settings.factors))
    return Starlette(
        routes=[
            Route("/", portal.show, methods=["GET"]),
            Route("/feedback", portal.feedback, methods=["POST"]),
            Route("/health", portal.health, methods=["GET"]),
        ],
        middleware=[Middleware(Hardened)],
        exception_handlers={HTTPException: _unknown},
    )


def serve(settings: Settings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted. Raises CallError if it may not be served, or not there."""
    served = application(settings)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise CallError(f"{host}:{port} cannot be served ({error.strerror}): choose another --port or --host") from None
    say(f"portal    http://{host}:{listening.getsockname()[1]}/?token=…")
    say("portal    a token to try it with: footprint portal-token --subscription ID; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(configuration(served)).run(sockets=[listening])


def configuration(served: Starlette) -> uvicorn.Config:
    """How the service is run. A request line holds the token, and a client's address is nobody's business: neither is logged."""
    return uvicorn.Config(served, access_log=False, log_level="warning", server_header=False, lifespan="off")


@dataclass(frozen=True)
class Portal:
    """The endpoints, with what they need. The numbers of answers are remembered until their tokens expire, and nowhere kept."""

    settings: Settings
    tokens: Tokens
    equivalences: Equivalences | None
    _answered: dict[str, float] = field(default_factory=dict)
    _answering: Lock = field(default_factory=Lock)

    async def show(self, request: Request) -> Response:
        """The page of the subscription that the token names."""
        return await _answer(request, lambda: self._page(request))

    async def feedback(self, request: Request) -> Response:
        """Thanks for an answer."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LONGEST_FORM_OCTETS:
                return _notice("refused", _language(request), 413)
        return await _answer(request, lambda: self._keep(body, _language(request)))

    async def health(self, request: Request) -> Response:
        """Whether PostgreSQL answers as it should; for a load balancer."""

        def look() -> Response:
            rows.connect(self.settings).close()
            return JSONResponse({"status": "ok"})

        return await _answer(request, look)

    def _page(self, request: Request) -> Response:
        language = _language(request)
        token = request.query_params.get("token", "")
        keys = self.tokens.subscription_keys(token)
        month = _month(request.query_params.get("month"))
        with closing(rows.connect(self.settings)) as connection:
            account = rows.account(connection, keys, month, language)
        if account is None:
            return _notice("absent", language, 404)

        def link(to: date, in_language: str) -> str:
            return "?" + urlencode({"token": token, "month": f"{to:%Y-%m}", "lang": in_language})

        other = "en" if language == "fr" else "fr"
        links = {to: link(to, language) for to in account.rows}
        service = Service(links, link(account.month, other), self.tokens.of_question(account.month))
        return HTMLResponse(page(account, language, self.equivalences, service))

    def _keep(self, body: bytes, preferred: str) -> Response:
        form = {name: values[0] for name, values in parse_qs(body.decode("ascii", "replace"), max_num_fields=5).items()}
        about = self.tokens.answerable(form.get("token", ""))
        language = form.get("lang", preferred)
        given = (form.get("answer", ""), form.get("reason"))  # parse_qs leaves an empty reason out
        if given[0] not in ("yes", "no") or given[1] not in (None, *FEEDBACK_REASONS) or language not in LANGUAGES:
            raise BadRequest
        if not self._is_first(about.number):
            return _thanks("again", language)
        try:
            with closing(rows.connect(self.settings)) as connection:
                rows.answer(connection, about.month, given, language, datetime.now(self.settings.legal_timezone).date())
        except Exception:
            self._answered.pop(about.number, None)  # it may be sent again
            raise
        return _thanks("thanks", language)

    def _is_first(self, number: str) -> bool:
        now = time.monotonic()
        with self._answering:
            for old in [known for known, until in self._answered.items() if until < now]:
                del self._answered[old]
            is_first = number not in self._answered
            self._answered[number] = now + self.tokens.minutes * 60
        return is_first


async def _answer(request: Request, work: Callable[[], Response]) -> Response:
    """The answer of blocking work; an error becomes a notice, and a line in the log without anything of the request."""
    try:
        return await run_in_threadpool(work)
    except NotAllowed:
        return _notice("unauthorised", _language(request), 401)
    except BadRequest:
        return _notice("refused", _language(request), 400)
    except (CallError, Refused) as error:
        _log.error("portal: %s", error)
    except Exception as error:  # noqa: BLE001 - a library's message may quote a subscriber's value
        _log.error("portal: %s", type(error).__name__)
    return _notice("unavailable", _language(request), 503)


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _notice("not_found", _language(request), status)


def _notice(name: str, language: str, status: int) -> Response:
    return HTMLResponse(notice(name, language), status)


def _thanks(name: str, language: str) -> Response:
    return HTMLResponse(notice(name, language, said(language)["feedback"][name]))


def _month(text: str | None) -> date | None:
    try:
        return usage_month(text) if text else None
    except CallError:
        raise BadRequest from None


def _language(request: Request) -> str:
    """The one asked for; else the browser's, if it is English; else French."""
    asked = request.query_params.get("lang", "")
    if asked in LANGUAGES:
        return asked
    return "en" if request.headers.get("accept-language", "").lower().startswith("en") else "fr"
