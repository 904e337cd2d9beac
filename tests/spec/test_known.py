"""What was worked out before is found again, exactly and for its own text alone, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.known import KNOWN_OCTETS, TEXT_OCTETS, Known

TEXTS = st.binary(max_size=TEXT_OCTETS + 2) | st.sampled_from([b"", b"1", b"11", b"\0", b"\0\0", b"x" * TEXT_OCTETS])


def octets(texts: list[bytes], salt: int = 0) -> np.ndarray:
    """Sixteen octets for each text that no other text has."""
    return np.array([[hash((text, salt, n)) % 256 for n in range(KNOWN_OCTETS)] for text in texts], np.uint8).reshape(-1, 16)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(TEXTS, max_size=9, unique=True)), max_size=6), st.sampled_from([1, 4, 32])
)
def test_a_table_finds_what_a_dictionary_would_as_far_as_it_has_room(turns, places):
    table, dictionary = Known(places), {}
    for group, texts in turns:
        found, is_known = table.of(group, pa.array(texts, pa.binary()))

        assert is_known.tolist() == [(group, text) in dictionary for text in texts]
        assert all((found[n] == dictionary[group, texts[n]]).all() for n in np.flatnonzero(is_known))

        new = [text for text in texts if (group, text) not in dictionary]
        table.remember(group, pa.array(new, pa.binary()), octets(new, ord(group)))
        room = places * 3 // 4 - len(dictionary)
        kept = [text for text in new if len(text) <= TEXT_OCTETS][:room]
        dictionary |= {(group, text): known for text, known in zip(kept, octets(kept, ord(group)), strict=True)}


def test_texts_may_be_a_slice_of_others():
    table, texts = Known(16), pa.array([b"before", b"one", b"two", b"after"])
    table.remember("", texts[1:3], octets([b"one", b"two"]))

    found, is_known = table.of("", texts[1:])

    assert is_known.tolist() == [True, True, False]
    assert (found[:2] == octets([b"one", b"two"])).all()


@pytest.mark.parametrize("group", [255, 256])
def test_texts_of_more_groups_than_a_place_can_name_are_not_remembered(group):
    table, texts = Known(1 << 10), pa.array([b"one"])
    for number in range(1, group + 1):
        table.remember(number, texts, octets([b"one"], number))

    found, is_known = table.of(group, texts)

    assert is_known.tolist() == [group == 255]
    assert (found == octets([b"one"], group)).all() == is_known[0]


def test_a_table_for_many_takes_no_text_before_it_was_offered_many():
    table, texts = Known(16, not_before=3), pa.array([b"one", b"two"])

    table.remember("", texts, octets([b"one", b"two"]))
    assert not table.of("", texts)[1].any()

    table.remember("", texts, octets([b"one", b"two"]))
    assert table.of("", texts)[1].all()


def test_the_same_text_remembered_twice_takes_one_place():
    table, texts = Known(4), pa.array([b"one"])
    for _ in range(3):
        table.remember("", texts, octets([b"one"]))
    table.remember("", pa.array([b"two", b"three", b"four"]), octets([b"two", b"three", b"four"]))

    assert table.of("", pa.array([b"one", b"two", b"three", b"four"]))[1].tolist() == [True, True, True, False]
