"""IPDR/XDR: every type as text, the ways libraries write, the twin in XML, and nothing guessed or lost in damaged documents."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.readers.block import count_warning
from jobs.readers.ipdr_names import SAMIS_TYPE_1
from jobs.readers.ipdr_xdr import MOST_ATTRIBUTES, read_ipdr_xdr
from jobs.readers.ipdr_xml import read_ipdr_xml
from tests.readers import ipdr_files as files
from tests.readers.ipdr_files import (
    CREATED,
    EPOCH,
    FORMS,
    SAMPLES,
    Reading,
    Values,
    XdrForm,
    ipdr,
    samis,
    text,
    xdr_descriptor,
    xdr_document,
    xdr_end,
    xdr_header,
    xdr_record,
    xml_document,
)

needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the project")
THREE = [samis(number) for number in (1, 2, 3)]
SOUND = xdr_document(THREE)
SMALL = {"a": files.UBYTE, "b": files.USHORT, "c": files.UINT, "name": files.STRING}


def read(octets: bytes, columns: Sequence[str] = SAMIS_TYPE_1, window_octets: int = 8 << 20) -> Reading:
    return files.read(read_ipdr_xdr, octets, columns, window_octets)


def texts(records: Sequence[Mapping[str, Any]], names: Sequence[str] = SAMIS_TYPE_1) -> list[tuple[str, ...]]:
    return [tuple(text(values[name]) for name in names) for values in records]


def one(kind: int, octets: bytes) -> Values:
    """The row of a record with one value, written in some octets."""
    record = struct.pack(">III", 2, 1, 0xFFFFFFFF) + octets
    (row,) = read(xdr_header() + xdr_descriptor({"v": kind}) + record + xdr_end(1), ("v",)).rows
    return row


# Types


def test_a_row_is_a_record_with_its_values_as_text():
    reading = read(SOUND)

    assert reading.values(*SAMIS_TYPE_1) == texts(THREE)
    assert reading.tally.records_declared == 3
    assert reading.tally.warnings == {}


@pytest.mark.parametrize(
    ("kind", "octets", "value"),
    [
        (files.INT, "ffffffff", "-1"),
        (files.UINT, "ffffffff", "4294967295"),
        (files.LONG, "8000000000000000", "-9223372036854775808"),
        (files.ULONG, "ffffffffffffffff", "18446744073709551615"),
        (files.FLOAT, "3faaa993", "1.3333"),
        (files.DOUBLE, "40be611c710cb296", "7777.1111"),
        (files.HEX, "0000000300ff10", "00ff10"),
        (files.HEX, "00000000", ""),
        (files.STRING, "00000003c3a978", "éx"),
        (files.BOOL, "00", "false"),
        (files.BOOL, "01", "true"),
        (files.BYTE, "ff", "-1"),
        (files.UBYTE, "ff", "255"),
        (files.UBYTE, "00000457", "1111"),
        (files.SHORT, "8000", "-32768"),
        (files.USHORT, "ffff", "65535"),
        (files.USHORT, "000080e8", "33000"),
        (files.SECONDS, "00000001", "1970-01-01T00:00:01.000Z"),
        (files.SECONDS, "ffffffff", "2106-02-07T06:28:15.000Z"),
        (files.MSEC, "00000100474f294e", "2004-11-17T16:13:18.030Z"),
        (files.USEC, "0000000000000001", "1970-01-01T00:00:00.000001Z"),
        (files.IPV4, "c0000201", "192.0.2.1"),
        (files.IPV6, "0000001020010db8000000000000000000000001", "2001:db8::1"),
        (files.IPV6, "00000000", ""),
        (files.IP, "00000004c0000201", "192.0.2.1"),
        (files.UUID_TYPE, "0000001097be5e2a1dd111b2a03baf1c144d619b", "97be5e2a-1dd1-11b2-a03b-af1c144d619b"),
        (files.MAC, "00000000390a4dff", "0000390a4dff"),
    ],
)
def test_a_value_is_written_one_way_only(kind: int, octets: str, value: str):
    row = one(kind, bytes.fromhex(octets))

    assert (row["v"], row["fault"]) == (value, None)


@pytest.mark.parametrize(
    ("kind", "octets", "fault"),
    [
        (files.STRING, "000000022c28c3"[:8] + "c328", "not_utf_8"),
        (files.STRING, "0000000100", "not_utf_8"),
        (files.BOOL, "02", "boolean_malformed"),
        (files.MSEC, "ffffffffffffffff", "time_out_of_range"),
        (files.IPV6, "0000000301020304"[:14], "address_malformed"),
        (files.IPV6, "0000000401020304", "address_malformed"),
        (files.UUID_TYPE, "0000000101", "uuid_malformed"),
        (files.MAC, "00010000390a4dff", "mac_malformed"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_null_with_a_fault(kind: int, octets: str, fault: str):
    row = one(kind, bytes.fromhex(octets))

    assert (row["v"], row["fault"]) == (None, fault)


def test_a_fault_of_a_value_leaves_the_others_of_its_record():
    reading = read(xdr_document([samis(1), samis(2, ServiceClassName=b"\xff"), samis(3)]))

    assert reading.faults == [None, "not_utf_8", None]
    assert reading.rows[1]["CmMacAddr"] == text(samis(2)["CmMacAddr"])
    assert reading.octets[3] == len(xdr_record(samis(2, ServiceClassName=b"\xff")))


@pytest.mark.parametrize("name", ["CMmacAddress", "ipdr:CmMacAddr", "cmmacaddr"])
def test_names_are_those_of_any_version(name: str):
    octets = xdr_document([{name: "0000390a4dff"}], {name: files.MAC})

    assert read(octets, ("CmMacAddr", "RecType")).values("CmMacAddr", "RecType") == [("0000390a4dff", None)]


def test_a_name_that_is_not_utf_8_costs_nothing():
    octets = xdr_document([samis(1)]).replace(b"CmLastRegTime", b"CmLastRegTim\xe9").replace(b"cmts1", b"cmt\xe91", 1)

    assert (read(octets).faults, read(octets).rows[0]["CmLastRegTime"]) == ([None], None)


def test_a_column_that_a_descriptor_names_twice_is_not_chosen():
    types = {"SFID": files.UINT, "ServiceIdentifier": files.UINT, "RecType": files.UINT}

    (row,) = read(xdr_document([{"SFID": 1, "ServiceIdentifier": 2, "RecType": 3}], types)).rows

    assert (row["ServiceIdentifier"], row["RecType"], row["fault"]) == (None, "3", "element_doubled")


def test_records_of_several_descriptors_keep_their_order():
    other = {"CmMacAddr": files.MAC, "IPDRCreationTime": files.MSEC}
    records = [
        xdr_record(samis(n)) if n % 3 else xdr_record({"CmMacAddr": f"{n:012x}", "IPDRCreationTime": CREATED}, other, number=9)
        for n in range(20)
    ]
    octets = xdr_header() + xdr_descriptor() + xdr_descriptor(other, 9) + b"".join(records) + xdr_end(20)

    reading = read(octets)

    assert reading.values("CmMacAddr") == [f"{n:012x}" for n in range(20)]
    assert reading.rows[3]["RecCreationTime"] == text(CREATED)
    assert reading.rows[3]["ServiceOctetsPassed"] is None


# How libraries write


@pytest.mark.parametrize("form", FORMS)
def test_records_are_read_in_whatever_way_they_line_up(form: XdrForm):
    records = [{"a": n, "b": 300 + n, "c": 70_000 + n, "name": "x" * n} for n in range(30)]

    reading = read(xdr_document(records, SMALL, form), tuple(SMALL))

    assert reading.values(*SMALL) == texts(records, tuple(SMALL))


@pytest.mark.parametrize("form", FORMS)
def test_a_descriptor_that_comes_later_decides_what_the_first_left_open(form: XdrForm):
    plain = {"c": files.UINT}
    octets = b"".join(
        [
            xdr_header(), xdr_descriptor(plain), *(xdr_record({"c": n}, plain, form) for n in range(20)),
            xdr_descriptor(SMALL, 2), *(xdr_record({"a": n, "b": n, "c": n, "name": ""}, SMALL, form, 2) for n in range(20)),
            xdr_end(40),
        ]
    )  # fmt: skip

    reading = read(octets, ("a", "c"), 100)

    assert reading.values("a", "c") == [(None, str(n)) for n in range(20)] + [(str(n), str(n)) for n in range(20)]
    assert reading.tally.records == reading.tally.records_declared


def test_a_document_that_can_be_read_in_two_ways_is_refused():
    # Cut off behind the octet that is all of a narrow unsignedByte, and the first of a wide one.
    types = {"c": files.UINT, "a": files.UBYTE}
    narrow = xdr_record({"c": 7, "a": 0}, types)

    reading = read(xdr_header() + xdr_descriptor(types) + narrow, ("a",))

    assert "it cannot be told how its records are written" in (reading.fault or "")


# Counting


def test_every_octet_is_header_or_record():
    records = len(xdr_record(THREE[0])) * 3

    assert read(SOUND).octets == (len(SOUND) - records, records, 0, 0)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_count_that_differs_is_seen(count: int):
    reading = read(xdr_document(THREE, count=count))

    assert reading.tally.records_declared == count
    assert count_warning(vars(reading.tally)) == {"record_count_differs": 1}


def test_a_number_of_elements_that_differs_is_seen():
    octets = xdr_header(elements=7) + SOUND[len(xdr_header()) :]

    assert read(octets).tally.warnings == {"element_count_differs": 1}
    assert read(xdr_header(elements=5) + SOUND[len(xdr_header()) :]).tally.warnings == {}


def test_a_document_without_records_is_read():
    assert (read(xdr_document([])).rows, read(xdr_document([])).tally.records_declared) == ([], 0)


# Damage

HEAD = xdr_header() + xdr_descriptor()
RECORDS = [xdr_record(values) for values in THREE]
STRANGE = xdr_descriptor({"a": 0x999}, 2)


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"\0\0\0\x09" + RECORDS[1], "element_unknown"),
        (b"\0\0\0\0", "element_unknown"),
        (struct.pack(">II", 2, 77), "descriptor_unknown"),
        (RECORDS[1][:8] + b"\0\0\0\0", "marker_missing"),
        (RECORDS[1][:12] + b"\xff\xff\xff\xff", "length_impossible"),
        (xdr_descriptor({"a": files.UINT}), "descriptor_redefined"),
        (struct.pack(">III", 1, 5, 0xFFFFFFFF), "descriptor_malformed"),
        (struct.pack(">IIII", 1, 5, 0, MOST_ATTRIBUTES + 1), "descriptor_malformed"),
        (xdr_end(2) + b"\0", "not_a_record"),
        (RECORDS[1][:-1], "truncated"),
        (RECORDS[1][:7], "truncated"),
        (b"\0\0", "truncated"),
        (xdr_end(2)[:-1], "truncated"),
        (STRANGE[:-1], "truncated"),
    ],
)
@pytest.mark.parametrize("window_octets", [8 << 20, 50])
def test_what_cannot_be_delimited_ends_what_is_read_and_the_rest_is_kept(octets: bytes, fault: str, window_octets: int):
    tail = b"" if fault == "truncated" else b"rest of the file" * 9
    before = HEAD + RECORDS[0] + RECORDS[2]

    reading = read(before + octets + tail, window_octets=window_octets)

    assert (reading.fault, reading.faults) == (None, [None, None, fault])
    assert reading.values(*SAMIS_TYPE_1) == texts([THREE[0], THREE[2]])
    ended = len(xdr_end(2)) if fault == "not_a_record" else 0
    assert reading.octets[3] == len(octets + tail) - ended
    assert reading.rows[2]["offset"] == len(before) + ended
    assert reading.tally.spans_quarantined == 1


def test_records_of_a_type_that_is_not_known_cannot_be_delimited():
    strange = struct.pack(">III", 2, 2, 0xFFFFFFFF) + b"\0\0\0\0"
    reading = read(HEAD + STRANGE + RECORDS[0] + strange + RECORDS[1] + xdr_end(3))

    assert reading.faults == [None, "type_unknown"]


def test_a_document_without_its_end_is_truncated():
    reading = read(SOUND[: -len(xdr_end(3))])

    assert reading.values(*SAMIS_TYPE_1) == texts(THREE)
    assert (reading.tally.records_declared, reading.tally.warnings) == (None, {"truncated": 1})


def test_a_document_that_is_cut_off_anywhere_keeps_the_records_before():
    ends = [len(HEAD) + len(RECORDS[0]) * nth for nth in (1, 2, 3)]

    for cut in range(len(xdr_header()), len(SOUND)):
        reading = read(SOUND[:cut])
        complete = sum(cut >= end for end in ends)
        assert reading.fault is None
        assert reading.values(*SAMIS_TYPE_1) == texts(THREE[:complete])
        assert reading.tally.warnings == {"truncated": 1}


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "the file is empty"),
        (SOUND[: len(xdr_header()) - 1], "the file ends within its header"),
        (b"subscriber,octets\n12345,1\n", "this is text, not an IPDR/XDR document"),
        (xml_document([]), "this is XML, not an IPDR/XDR document"),
        (b"\x1f\x8b\x08\0" + bytes(100), "gzip-compressed"),
        (b"\0\0\0\x04" + b"\xff" * 100, "this is not an IPDR/XDR document"),
        (bytes(1000), "this is not an IPDR/XDR document"),
    ],
)
def test_what_is_no_ipdr_xdr_is_refused_by_name_and_never_quoted(octets: bytes, reason: str):
    reading = read(octets, ("subscriber",))

    assert reason in (reading.fault or "")
    assert "12345" not in (reading.fault or "")


# Windows and twins

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=9)
INSTANTS = st.integers(86_400, (1 << 32) - 1).map(lambda second: EPOCH + timedelta(seconds=second))
SAMIS = st.fixed_dictionaries(
    {
        "CmtsHostName": NAMES.map(lambda name: name.strip()),
        "CmMacAddr": st.integers(0, (1 << 48) - 1).map("{:012x}".format),
        "ServiceOctetsPassed": st.integers(0, (1 << 64) - 1),
        "ServiceTimeCreated": st.integers(0, (1 << 32) - 1),
        "CmLastRegTime": INSTANTS,
        "RecCreationTime": INSTANTS,
        "SfChSet": st.binary(max_size=5),
        "ServiceDsMulticast": st.booleans(),
    }
).map(lambda changed: samis(1, **changed))


@settings(max_examples=40, deadline=None)
@given(records=st.lists(SAMIS, max_size=5), window_octets=st.integers(20, 400), form=st.sampled_from(FORMS))
def test_xdr_and_xml_of_the_same_records_give_equal_rows(records: list[Values], window_octets: int, form: XdrForm):
    of_xdr = read(xdr_document(records, form=form), window_octets=window_octets)
    of_xml = files.read(read_ipdr_xml, xml_document([ipdr(values) for values in records]), SAMIS_TYPE_1)

    assert of_xdr.values(*SAMIS_TYPE_1) == of_xml.values(*SAMIS_TYPE_1)
    assert of_xdr.faults == of_xml.faults == [None] * len(records)


@settings(max_examples=80, deadline=None)
@given(
    damages=st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=4)), max_size=3),
    window_octets=st.integers(1, 700),
    form=st.sampled_from(FORMS),
)
def test_the_size_of_a_window_never_changes_the_result(damages: list[tuple[int, bytes]], window_octets: int, form: XdrForm):
    octets = xdr_document(THREE, form=form)
    for at, inserted in damages:
        octets = octets[: at % len(octets)] + inserted + octets[at % len(octets) + 1 :]

    whole, other = read(octets), read(octets, window_octets=window_octets)

    assert whole.fault == other.fault
    if whole.fault is None:
        assert (whole.rows, whole.tally) == (other.rows, other.tally)


# Samples


@needs_samples
def test_the_sample_of_every_type_has_the_rows_of_its_twins():
    lines = (SAMPLES / "primitiveTypes.1.csv").read_text(encoding="utf-8").splitlines()
    names = tuple(name for name in lines[2].split(",") if name)
    of_csv = dict(zip(names, lines[3].split(","), strict=False))

    (of_xdr,) = read((SAMPLES / "primitiveTypes.1.xdr").read_bytes(), names).rows
    (of_xml,) = files.read(read_ipdr_xml, (SAMPLES / "primitiveTypes.1.xml").read_bytes(), names).rows

    assert {name: of_xml[name] for name in names} == of_csv
    # The library writes numbers with six places after the point, hexBinary as it is, and the octet of -1 as 127.
    canonical = {"myFloat": "1.3333", "myDouble": "7777.1111", "myHexBinary": b"sample byte array".hex(), "myByte": "127"}
    assert {name: of_xdr[name] for name in names} == of_csv | canonical
    assert (float(of_csv["myFloat"]), float(of_csv["myDouble"])) == (1.3333, 7777.1111)


@needs_samples
def test_the_sample_is_counted_to_its_last_octet():
    reading = read((SAMPLES / "primitiveTypes.1.xdr").read_bytes(), ("myInt",))

    assert reading.tally.records == reading.tally.records_declared == 1
    assert reading.octets == (403, 98, 0, 0)
    assert reading.tally.warnings == {}
