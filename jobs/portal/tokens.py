"""Signed, expiring tokens: what lets a page be shown, and what lets an answer be counted.

The operator's login issues the first for a subscription it has recognised. It is signed, not encrypted: it holds the
subscription's pseudonyms and the second it was issued, and stands in the page's address, so it expires after minutes. The second
names nobody.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

from jobs.pseudonyms import FROM_THE_BEGINNING, Key, make_key, read_key
from jobs.run import CallError, Settings, usage_month

_SUBSCRIPTION_KEY = re.compile(r"[0-9a-f]{32}")


class NotAllowed(Exception):
    """The token is missing, forged, changed or expired."""


@dataclass(frozen=True)
class Answerable:
    """What an answer is about: the month that was shown, and a number that is used once."""

    month: date
    number: str


@dataclass(frozen=True)
class Tokens:
    """Issues and reads tokens under one key."""

    key: Key
    minutes: int

    def of_subscription(self, subscription_keys: Sequence[str]) -> str:
        """A token that shows the subscription of these keys, one for each serving key its months were published under."""
        return str(self._pages.dumps(list(subscription_keys)))

    def subscription_keys(self, token: str) -> list[str]:
        """The keys that a token names. Raises NotAllowed."""
        keys = self._read(self._pages, token)
        if not isinstance(keys, list) or not keys or not all(isinstance(k, str) and _SUBSCRIPTION_KEY.fullmatch(k) for k in keys):
            raise NotAllowed("the token names no subscription")
        return keys

    def of_question(self, month: date) -> str:
        """A token with which one answer about a month may be given."""
        return str(self._answers.dumps([f"{month:%Y-%m}", secrets.token_hex(8)]))

    def answerable(self, token: str) -> Answerable:
        """What an answer with this token is about. Raises NotAllowed."""
        month, number = self._read(self._answers, token)
        return Answerable(usage_month(month), number)

    @property
    def _pages(self) -> URLSafeTimedSerializer:
        return self._serializer("page")

    @property
    def _answers(self) -> URLSafeTimedSerializer:
        return self._serializer("answer")

    def _serializer(self, salt: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self.key.secret, salt=f"footprint portal {salt}", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def _read(self, serializer: URLSafeTimedSerializer, token: str) -> Any:
        try:
            return serializer.loads(token, max_age=self.minutes * 60)
        except BadSignature as error:
            raise NotAllowed(type(error).__name__) from None


def tokens(settings: Settings) -> Tokens:
    """Those of the settings; the key is made beside the others if nobody named a file of their own.

    Raises:
        CallError: the key named is not there, is readable by others or is no key.
    """
    path: Path = settings.portal_key
    if path == settings.keys / "portal.key":
        make_key(path.parent, "portal", FROM_THE_BEGINNING)
    elif not path.exists():
        raise CallError(f"FOOTPRINT_PORTAL_KEY: {path} is missing; the operator's login and the portal share it")
    return Tokens(read_key(path.parent, path.name), settings.portal_token_minutes)
