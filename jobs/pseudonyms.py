"""Pseudonyms: identifiers leave the reader only as keyed hashes.

HMAC-SHA-256(key, type ‖ 0x00 ‖ normalised value), the first 128 bits. Two keys: the *identifier* key never leaves the lake's
side; with the *serving* key billing and the portal derive ``subscription_key`` from their own subscription id. A key is read
from its file where it is used, on the worker; it is never a literal, in a closure, a plan or a log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs.run import CallError, Refused

KEY_OCTETS = 32
PSEUDONYM_OCTETS = 16
IDENTIFIER_KEY, SERVING_KEY = "identifier", "serving"
PSEUDONYM = pa.binary(PSEUDONYM_OCTETS)
_FINGERPRINT_LABEL = b"footprint key fingerprint"


@dataclass(frozen=True, repr=False)
class Key:
    """A pseudonymisation key in memory. Its representation never shows it."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        """Name and fingerprint."""
        return f"Key({self.name}, {self.fingerprint})"

    def __reduce__(self) -> str:
        """A key is never serialised: each worker reads it from its file."""
        raise TypeError("a key is never serialised")

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without revealing them: first 16 digits of a keyed hash of a fixed label."""
        return hmac.digest(self.secret, _FINGERPRINT_LABEL, "sha256").hex()[:16]

    def pseudonym(self, kind: str, value: str) -> bytes:
        """Pseudonym of one normalised value."""
        return hmac.digest(self.secret, kind.encode() + b"\0" + value.encode(), "sha256")[:PSEUDONYM_OCTETS]

    def pseudonyms(self, kind: str, values: pa.StringArray) -> pa.FixedSizeBinaryArray:
        """Pseudonyms of normalised values; each distinct value is hashed once, null stays null."""
        encoded = pc.dictionary_encode(values)
        hashed = pa.array([self.pseudonym(kind, value) for value in encoded.dictionary.to_pylist()], PSEUDONYM)
        return hashed.take(encoded.indices)

    def record_keys(self, values: pa.StringArray) -> pa.FixedSizeBinaryArray:
        """Keyed 128-bit hashes of record keys (BLAKE2b), which may hold an identifier; null stays null."""
        secret = self.secret

        def hashed(value: bytes | None) -> bytes | None:
            return value and hashlib.blake2b(value, digest_size=PSEUDONYM_OCTETS, key=secret).digest()

        return pa.array([hashed(value) for value in values.cast(pa.binary()).to_pylist()], PSEUDONYM)


def read_key(folder: Path, name: str) -> Key:
    """Read a key from its file. Raises CallError if it is not there, is readable by others or is not a key."""
    path = folder / f"{name}.key"
    try:
        if path.stat().st_mode & 0o077:
            raise CallError(f"{path} can be read by others: chmod 600 it")
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        raise CallError(f"{path} is missing: restore it from where your keys are kept, or set FOOTPRINT_KEYS") from None
    except ValueError:
        raise CallError(f"{path} is not a key: {2 * KEY_OCTETS} hexadecimal digits are expected") from None
    if len(secret) < KEY_OCTETS:
        raise CallError(f"{path} is not a key: {2 * KEY_OCTETS} hexadecimal digits are expected")
    return Key(name, secret)


def make_keys(folder: Path) -> None:
    """Make both keys, readable by their owner only, unless they are there. Only for a lake that is empty."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (IDENTIFIER_KEY, SERVING_KEY):
        path = folder / f"{name}.key"
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(KEY_OCTETS) + "\n")


def check_fingerprints(folder: Path, registered: dict[str, str]) -> None:
    """Refuse keys other than the lake was written with. Raises Refused, naming the key file."""
    for name, fingerprint in registered.items():
        found = read_key(folder, name).fingerprint
        if found != fingerprint:
            raise Refused(
                f"{folder / name}.key is not the key this lake was written with (fingerprint {found}, the lake has "
                f"{fingerprint}): restore the right key"
            )
