"""Pseudonyms: identifiers leave the reader only as keyed hashes.

HMAC-SHA-256(key, type ‖ 0x00 ‖ normalised value), the first 128 bits. Two keys: the *identifier* key never leaves the lake's
side; with the *serving* key billing and the portal derive ``subscription_key`` from their own subscription id. Each may be
succeeded by another from a month on; earlier months keep theirs. A key is read from its file where it is used, on the worker; it
is never a literal, in a closure, a plan or a log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.known import Known, Octets
from jobs.legal_calendar import FIRST_YEAR, month_number
from jobs.run import CallError, Refused

Integers = npt.NDArray[np.int64]

KEY_OCTETS = 32
PSEUDONYM_OCTETS = 16
NAMES = IDENTIFIER_KEY, SERVING_KEY = "identifier", "serving"
PSEUDONYM = pa.binary(PSEUDONYM_OCTETS)
FROM_THE_BEGINNING = date(FIRST_YEAR, 1, 1)
"""First month of a key that succeeds no other."""
_PLACES = 1 << 20
"""Of pseudonyms that a process remembers, in 64 MiB. Once they are full, no other takes a place: files come in one order."""
_MANY = 1 << 16
"""From so many on a process remembers pseudonyms, and works them out by compiled code."""
_MANY_RECORDS = 1 << 18
"""From so many on a process hashes record keys by compiled code."""
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
        return _by_hmac([value.encode()], self.secret, kind.encode() + b"\0")

    def pseudonyms(self, kind: str, values: pa.StringArray) -> pa.FixedSizeBinaryArray:
        """Pseudonyms of normalised values; null stays null. What this process worked out before is not hashed again."""
        texts, group = values.cast(pa.binary()), (self.fingerprint, kind)
        found, is_known = _known_pseudonyms().of(group, texts)
        is_there = texts.is_valid()
        missing = np.flatnonzero(is_there.to_numpy(zero_copy_only=False) & ~is_known)
        if len(missing):
            encoded = pc.dictionary_encode(texts.take(pa.array(missing)))
            hashes = _pseudonym_hashes().of(encoded.dictionary, self.secret, kind.encode() + b"\0")
            hashed = np.frombuffer(hashes, np.uint8).reshape(-1, PSEUDONYM_OCTETS)
            _known_pseudonyms().remember(group, encoded.dictionary, hashed)
            found[missing] = hashed[encoded.indices.to_numpy()]
        pseudonyms = _fixed(found)
        return pc.if_else(is_there, pseudonyms, pa.scalar(None, PSEUDONYM)) if texts.null_count else pseudonyms

    def record_keys(self, values: pa.StringArray) -> pa.FixedSizeBinaryArray:
        """Keyed 128-bit hashes of record keys (BLAKE2b), which may hold an identifier; null stays null."""
        # The intervals of a record have one key and follow each other: it is hashed once.
        runs = pc.run_end_encode(values.cast(pa.binary()))
        digests = _fixed(_record_hashes().of(runs.values, self.secret))
        hashed = pc.if_else(runs.values.is_valid(), digests, pa.scalar(None, PSEUDONYM)) if runs.values.null_count else digests
        if len(hashed) == len(values):
            return hashed
        lengths = np.diff(runs.run_ends.to_numpy(), prepend=0)
        return hashed.take(pa.array(np.repeat(np.arange(len(hashed)), lengths)))


class _Hashes:
    """Keyed hashes of texts: by Python's own, and compiled once a process has hashed many: to load that takes half a second."""

    def __init__(self, own: Callable[..., bytes], compiled: str, many: int) -> None:
        """Take Python's own, the module of the compiled one, and from how many texts on that is taken."""
        self._own, self._compiled, self._many, self._hashed = own, compiled, many, 0

    def of(self, texts: pa.BinaryArray, *keyed: bytes) -> bytes | Octets:
        """Hashes of 128 bits, one after the other, of each text under a key; a null is the empty text."""
        self._hashed += len(texts)
        if self._hashed > self._many:
            found: Octets = import_module(self._compiled).hashed(*keyed, texts)
            return found
        return self._own([text or b"" for text in texts.to_pylist()], *keyed)


def _by_hmac(texts: Iterable[bytes], secret: bytes, begin: bytes) -> bytes:
    return b"".join(hmac.digest(secret, begin + text, "sha256")[:PSEUDONYM_OCTETS] for text in texts)


def _by_blake2b(texts: Iterable[bytes], secret: bytes) -> bytes:
    keyed, digests = hashlib.blake2b(digest_size=PSEUDONYM_OCTETS, key=secret), []
    for text in texts:
        record = keyed.copy()
        record.update(text)
        digests.append(record.digest())
    return b"".join(digests)


@lru_cache(maxsize=1)
def _pseudonym_hashes() -> _Hashes:
    return _Hashes(_by_hmac, "jobs.hmac_sha256", _MANY)


@lru_cache(maxsize=1)
def _record_hashes() -> _Hashes:
    return _Hashes(_by_blake2b, "jobs.blake2b", _MANY_RECORDS)


@lru_cache(maxsize=1)
def _known_pseudonyms() -> Known:
    """Pseudonyms, by key and kind, that this process worked out before: a worker meets a subscriber again in the next file."""
    return Known(_PLACES, _MANY)


def load_compiled() -> None:
    """Load the compiled code with which many texts are hashed and remembered."""
    text, secret = pa.array([b"1"]), bytes(KEY_OCTETS)
    for module, begins in (("jobs.hmac_sha256", (b"",)), ("jobs.blake2b", ())):
        import_module(module).hashed(secret, *begins, text)
    known = Known(1 << 4)
    known.remember("", text, np.zeros((1, PSEUDONYM_OCTETS), np.uint8))
    known.of("", text)


def beginnings(pseudonyms: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    """The first eight octets of pseudonyms, none of them null, each as one number."""
    octets = pseudonyms.buffers()[1] if len(pseudonyms) else b""
    return np.frombuffer(octets, ">u8")[pseudonyms.offset * 2 :: 2][: len(pseudonyms)].astype(np.uint64)


def _fixed(hashes: bytes | Octets) -> pa.FixedSizeBinaryArray:
    """Hashes that stand one after the other."""
    octets = pa.py_buffer(hashes)
    return pa.Array.from_buffers(PSEUDONYM, octets.size // PSEUDONYM_OCTETS, [None, octets])


@dataclass(frozen=True)
class Term:
    """A key's term: what it is for, the first month it serves, and its fingerprint. Not the key."""

    name: str
    serves_from: date
    fingerprint: str

    @property
    def file_name(self) -> str:
        """The file of the key; a successor's names the month it serves from."""
        return f"{self.name}.key" if self.serves_from == FROM_THE_BEGINNING else f"{self.name}.{self.serves_from:%Y-%m}.key"


@dataclass(frozen=True)
class Keys:
    """Which key of one name serves which month. Holds terms, not keys, so that a worker can be told."""

    folder: Path
    terms: tuple[Term, ...]

    @property
    def first_months(self) -> Integers:
        """First month of each term, as a month number of the legal calendar, ascending."""
        return np.array([month_number(term.serves_from) for term in self.terms], np.int64)

    def of_month(self, number: int) -> Key:
        """The key that serves a month, by its number in the legal calendar. Raises CallError as ``read_key``."""
        term = max(0, int(np.searchsorted(self.first_months, number, side="right")) - 1)
        return read_key(self.folder, self.terms[term].file_name)

    def by_month(self, months: Integers) -> Iterator[tuple[Key, Integers]]:
        """Each key that serves some of the months, with the positions of those."""
        served = np.searchsorted(self.first_months, months, side="right")
        for term in np.unique(served):
            positions = np.flatnonzero(served == term)
            yield self.of_month(int(months[positions[0]])), positions


def terms_of(folder: Path, name: str) -> Keys:
    """Terms as the file names of a folder say. Raises CallError if there is no key of that name."""
    found = {FROM_THE_BEGINNING: f"{name}.key"} if (folder / f"{name}.key").exists() else {}
    for path in folder.glob(f"{name}.[0-9][0-9][0-9][0-9]-[0-9][0-9].key"):
        found[date.fromisoformat(f"{path.name.split('.')[1]}-01")] = path.name
    if not found:
        read_key(folder, f"{name}.key")
    return Keys(folder, tuple(Term(name, first, read_key(folder, found[first]).fingerprint) for first in sorted(found)))


def read_key(folder: Path, file_name: str) -> Key:
    """Read a key from its file. Raises CallError if it is not there, is readable by others or is not a key."""
    path = folder / file_name
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
    return Key(file_name.split(".")[0], secret)


def make_key(folder: Path, name: str, serves_from: date) -> Term:
    """Make a key, readable by its owner only, unless it is there; give its term."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file_name = Term(name, serves_from, "").file_name
    path = folder / file_name
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_OCTETS) + "\n")
    return Term(name, serves_from, read_key(folder, file_name).fingerprint)


def check_fingerprints(folder: Path, terms: Iterable[Term]) -> None:
    """Refuse keys other than the lake was written with. A key that an earlier term no longer needs may be gone.

    Raises:
        Refused: a key is not the registered one; the message names its file.
        CallError: the latest key of a name is missing.
    """
    latest = {term.name: term for term in terms}
    for term in terms:
        if term is not latest[term.name] and not (folder / term.file_name).exists():
            continue
        found = read_key(folder, term.file_name).fingerprint
        if found != term.fingerprint:
            raise Refused(
                f"{folder / term.file_name} is not the key this lake was written with (fingerprint {found}, the lake has "
                f"{term.fingerprint}): restore the right key"
            )
