"""Identifiers leave the reader only as keyed hashes, and a key never leaves its file except into memory.

The expected pseudonyms were computed apart:
``printf 'msisdn\\0%s' 33612345678 | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f``.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import stat
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark import cloudpickle

from jobs.legal_calendar import month_number
from jobs.pseudonyms import (
    FROM_THE_BEGINNING,
    IDENTIFIER_KEY,
    NAMES,
    SERVING_KEY,
    Key,
    Term,
    check_fingerprints,
    make_key,
    read_key,
    terms_of,
)
from jobs.run import CallError, Refused

SECRET = bytes(range(32))
KEY = Key("identifier", SECRET)
HEXADECIMAL = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"


def key_file(folder: Path, text: str, mode: int = 0o600, name: str = IDENTIFIER_KEY) -> Path:
    path = folder / f"{name}.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def terms_made(folder: Path) -> list[Term]:
    return [make_key(folder, name, FROM_THE_BEGINNING) for name in NAMES]


# Pseudonyms


@pytest.mark.parametrize(
    ("kind", "value", "pseudonym"),
    [
        ("msisdn", "33612345678", "703be04392d549a70ad31567012ff651"),
        ("imsi", "001010123456789", "250fe2c62f94e8a905c70ebcf121c4d6"),
        ("subscription", "SUB-0001", "d119c6d7ceeb5ea3840d7ee7cef295fa"),
        ("line_id", "é", "c823df3816173fc076569b821e601517"),
    ],
)
def test_a_pseudonym_is_the_first_128_bits_of_hmac_sha256_of_type_zero_value(kind, value, pseudonym):
    assert KEY.pseudonym(kind, value).hex() == pseudonym


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=32, max_size=64),
    st.sampled_from(["imsi", "msisdn", "line_id", "mac"]),
    st.text(st.characters(codec="utf-8")),
)
def test_any_pseudonym_agrees_with_the_standard_library(secret, kind, value):
    expected = hmac.new(secret, kind.encode() + bytes(1) + value.encode(), hashlib.sha256).digest()[:16]

    assert Key("serving", secret).pseudonym(kind, value) == expected
    assert Key("serving", secret).pseudonyms(kind, pa.array([value, None, value])).to_pylist() == [expected, None, expected]


def test_the_same_digits_under_another_type_or_key_are_another_pseudonym():
    other = Key("identifier", bytes(32))

    assert len({KEY.pseudonym("imsi", "1"), KEY.pseudonym("msisdn", "1"), other.pseudonym("imsi", "1")}) == 3


def test_pseudonyms_keep_the_order_and_leave_null_as_null():
    values = pa.array(["b", None, "a", "b"], pa.string())

    found = KEY.pseudonyms("imsi", values)

    a, b = KEY.pseudonym("imsi", "a"), KEY.pseudonym("imsi", "b")
    assert found.to_pylist() == [b, None, a, b]
    assert found.type == pa.binary(16)


@pytest.mark.parametrize("values", [[], [None, None]])
def test_a_column_without_values_has_no_pseudonyms(values):
    assert KEY.pseudonyms("imsi", pa.array(values, pa.string())).to_pylist() == values


def test_a_record_key_is_a_keyed_hash_too_since_it_may_hold_an_identifier():
    found = KEY.record_keys(pa.array(["fixed\x1fline-1", None]))

    expected = hashlib.blake2b(b"fixed\x1fline-1", digest_size=16, key=SECRET).digest()
    assert found.to_pylist() == [expected, None]
    assert found.to_pylist() != Key("identifier", bytes(32)).record_keys(pa.array(["fixed\x1fline-1", None])).to_pylist()


# A key in memory


def test_a_key_shows_its_name_and_fingerprint_and_never_its_secret():
    assert repr(KEY) == str(KEY) == f"{KEY}" == "Key(identifier, 1669ddd4b3f4b616)"


def test_a_fingerprint_tells_keys_apart_without_being_part_of_them():
    assert KEY.fingerprint == "1669ddd4b3f4b616"
    assert KEY.fingerprint not in HEXADECIMAL
    assert KEY.fingerprint != Key("identifier", bytes(32)).fingerprint


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_a_key_is_never_serialised(take):
    with pytest.raises(TypeError, match=r"^a key is never serialised$"):
        take(KEY)


def test_a_closure_over_a_key_is_never_serialised():
    captured = Key("identifier", SECRET)

    with pytest.raises((TypeError, pickle.PicklingError), match="a key is never serialised"):
        cloudpickle.dumps(lambda value: captured.pseudonym("imsi", value))


# A key file


def test_made_keys_are_for_their_owner_only_and_differ(tmp_path):
    folder = tmp_path / "new" / "keys"

    terms_made(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "identifier.key": 0o600,
        "serving.key": 0o600,
    }
    secrets = [read_key(folder, f"{name}.key").secret for name in (IDENTIFIER_KEY, SERVING_KEY)]
    assert [len(secret) for secret in secrets] == [32, 32]
    assert secrets[0] != secrets[1]


def test_a_key_that_is_there_is_never_made_anew(tmp_path):
    key_file(tmp_path, HEXADECIMAL)

    terms_made(tmp_path)
    before = read_key(tmp_path, f"{SERVING_KEY}.key")
    terms_made(tmp_path)

    assert read_key(tmp_path, f"{IDENTIFIER_KEY}.key").secret == SECRET
    assert read_key(tmp_path, f"{SERVING_KEY}.key") == before


@pytest.mark.parametrize("text", [HEXADECIMAL, HEXADECIMAL + "\n", HEXADECIMAL.upper() + "\r\n"])
def test_a_key_file_holds_64_hexadecimal_digits(tmp_path, text):
    key_file(tmp_path, text)

    assert read_key(tmp_path, f"{IDENTIFIER_KEY}.key") == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o666])
def test_a_key_file_that_others_can_read_is_refused(tmp_path, mode):
    path = key_file(tmp_path, HEXADECIMAL, mode)

    with pytest.raises(CallError, match=f"^{path} can be read by others: chmod 600 it$"):
        read_key(tmp_path, f"{IDENTIFIER_KEY}.key")


def test_a_key_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(CallError, match=rf"^{tmp_path}/serving\.key is missing: restore it .*, or set FOOTPRINT_KEYS$"):
        read_key(tmp_path, f"{SERVING_KEY}.key")


@pytest.mark.parametrize("text", ["", "hunter2", HEXADECIMAL[:-2], HEXADECIMAL[:-1], "é" * 64, "zz" * 32])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path, text):
    path = key_file(tmp_path, text)

    with pytest.raises(CallError) as refusal:
        read_key(tmp_path, f"{IDENTIFIER_KEY}.key")

    assert str(refusal.value) == f"{path} is not a key: 64 hexadecimal digits are expected"


# Fingerprints


def test_the_keys_the_lake_was_written_with_are_accepted(tmp_path):
    check_fingerprints(tmp_path, terms_made(tmp_path))


def test_another_key_than_the_lakes_is_refused_by_its_file(tmp_path):
    key_file(tmp_path, HEXADECIMAL)

    with pytest.raises(Refused) as refusal:
        check_fingerprints(tmp_path, [Term("identifier", FROM_THE_BEGINNING, "0123456789abcdef")])

    assert str(refusal.value) == (
        f"{tmp_path}/identifier.key is not the key this lake was written with (fingerprint 1669ddd4b3f4b616, the lake has "
        "0123456789abcdef): restore the right key"
    )
    assert HEXADECIMAL not in str(refusal.value)


def test_the_two_keys_cannot_be_exchanged(tmp_path):
    one, other = terms_made(tmp_path)
    registered = [replace(one, fingerprint=other.fingerprint), replace(other, fingerprint=one.fingerprint)]

    with pytest.raises(Refused, match="is not the key this lake was written with"):
        check_fingerprints(tmp_path, registered)


# Keys that succeed each other

JANUARY = date(2027, 1, 1)


def test_a_successor_serves_from_its_month_on_and_its_file_names_the_month(tmp_path):
    first = make_key(tmp_path, SERVING_KEY, FROM_THE_BEGINNING)
    second = make_key(tmp_path, SERVING_KEY, JANUARY)

    assert (first.file_name, second.file_name) == ("serving.key", "serving.2027-01.key")
    keys = terms_of(tmp_path, SERVING_KEY)
    assert keys.terms == (first, second)
    months = np.array([month_number(date(2026, 12, 1)), month_number(JANUARY), month_number(date(2000, 1, 1)), 1199])
    served = {key.fingerprint: positions.tolist() for key, positions in keys.by_month(months)}
    assert served == {first.fingerprint: [0, 2], second.fingerprint: [1, 3]}


def test_keys_can_be_told_to_a_worker_since_they_hold_no_key(tmp_path):
    terms_made(tmp_path)

    told = pickle.dumps(terms_of(tmp_path, SERVING_KEY))

    assert read_key(tmp_path, "serving.key").secret.hex().encode() not in told
    assert pickle.loads(told).of_month(0) == read_key(tmp_path, "serving.key")


def test_an_earlier_key_may_be_gone_once_its_months_are_but_not_the_latest(tmp_path):
    terms = [make_key(tmp_path, IDENTIFIER_KEY, month) for month in (FROM_THE_BEGINNING, JANUARY)]
    (tmp_path / "identifier.key").unlink()

    check_fingerprints(tmp_path, terms)
    (tmp_path / "identifier.2027-01.key").unlink()
    with pytest.raises(CallError, match=r"identifier\.2027-01\.key is missing"):
        check_fingerprints(tmp_path, terms)


def test_an_earlier_key_that_is_there_must_be_the_lakes(tmp_path):
    terms = [make_key(tmp_path, IDENTIFIER_KEY, month) for month in (FROM_THE_BEGINNING, JANUARY)]
    (tmp_path / "identifier.key").write_text(HEXADECIMAL, encoding="ascii")

    with pytest.raises(Refused, match=r"/identifier\.key is not the key this lake was written with"):
        check_fingerprints(tmp_path, terms)
