"""IPDRDoc XML: names of every version, what is refused, what costs one record only, and that windows never change a result."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.readers.block import count_warning
from jobs.readers.ipdr_names import SAMIS_TYPE_1, wanted
from jobs.readers.ipdr_xdr import read_ipdr_xdr
from jobs.readers.ipdr_xml import read_ipdr_xml
from jobs.readers.ipdr_xml_walk import LONGEST_NAME_OCTETS, LONGEST_RECORD_OCTETS
from tests.readers.ipdr_files import (
    DOCSIS_2_NAMES,
    SAMPLES,
    STRING,
    Reading,
    Values,
    dashed,
    ipdr,
    samis,
    text,
    xdr_document,
    xml_document,
)
from tests.readers.ipdr_files import read as read_with
from tests.readers.ipdr_plain import of_xml

needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the project")
THREE = [ipdr(samis(number)) for number in (1, 2, 3)]
SOUND = xml_document(THREE)
SOME = ("CmMacAddr", "ServiceOctetsPassed")


def read(octets: bytes, columns: Sequence[str] = SAMIS_TYPE_1, window_octets: int = 8 << 20) -> Reading:
    return read_with(read_ipdr_xml, octets, columns, window_octets)


def one(content: str, columns: Sequence[str] = ("a", "b"), attributes: str = "") -> Values:
    """The only row of a document with a record of some content."""
    reading = read(xml_document([f"<IPDR{attributes}>{content}</IPDR>"]), columns)
    assert reading.fault is None
    (row,) = reading.rows
    return row


# Names


def test_a_row_is_an_ipdr_with_its_values_as_text():
    reading = read(SOUND)

    assert [[row[name] for name in SAMIS_TYPE_1] for row in reading.rows] == [
        [text(value) for value in samis(number).values()] for number in (1, 2, 3)
    ]
    assert reading.tally.records_declared == 3
    assert reading.tally.warnings == {}


def test_records_of_docsis_2_are_read_under_the_names_of_docsis_3():
    reading = read(xml_document([ipdr(samis(7), DOCSIS_2_NAMES)]))

    (row,) = reading.rows
    expected = {name: text(value) if name in DOCSIS_2_NAMES else None for name, value in samis(7).items()}
    assert {name: row[name] for name in SAMIS_TYPE_1} == expected | {"CmMacAddr": dashed(samis(7)["CmMacAddr"])}


@pytest.mark.parametrize("name", ["CMTShostname", "CMTSHostName", "cmtshostname", "ipdr:CmtsHostName", "samis:CMTShostname"])
def test_neither_case_nor_prefix_of_a_name_matters(name: str):
    assert one(f"<{name}>cmts1</{name}>", ("CmtsHostName",))["CmtsHostName"] == "cmts1"


def test_a_column_keeps_the_name_it_was_asked_for_by():
    assert one("<SFID>7</SFID>", ("serviceidentifier",))["serviceidentifier"] == "7"
    assert one("<ServiceIdentifier>7</ServiceIdentifier>", ("SFID",))["SFID"] == "7"


def test_the_creation_time_of_the_ipdr_stands_in_for_that_of_the_record_only_where_it_lacks_one():
    header = "<IPDRCreationTime>2026-10-31T18:00:00Z</IPDRCreationTime>"

    assert one(header, ("RecCreationTime",))["RecCreationTime"] == "2026-10-31T18:00:00Z"
    both = one(f"{header}<RecCreationTime>2026-10-31T19:00:00Z</RecCreationTime>", ("RecCreationTime", "IPDRCreationTime"))
    assert (both["RecCreationTime"], both["IPDRCreationTime"]) == ("2026-10-31T19:00:00Z", "2026-10-31T18:00:00Z")


def test_the_same_column_by_two_names_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="two columns are both"):
        wanted(["SFID", "ServiceIdentifier"])


@pytest.mark.parametrize("value", ["Interim", "Stop", "Start", "Event", "1", "2", "3", "4"])
@pytest.mark.parametrize("name", ["RecType", "SFtype", "Rectype"])
def test_a_record_type_stays_as_it_is_written(name: str, value: str):
    assert one(f"<{name}>{value}</{name}>", ("RecType",))["RecType"] == value


# Values


def test_plain_records_and_those_for_the_whole_parser_are_read_alike():
    records = [ipdr(samis(number, ServiceClassName="R&D été")) for number in range(9)]
    unusual = [record.replace("<RecType>", "<!-- --><RecType>") for record in records]
    mixed = [one if number % 2 else other for number, (one, other) in enumerate(zip(records, unusual, strict=True))]

    for encoding in ("UTF-8", "ISO-8859-1"):
        plain, whole, both = (
            read(xml_document(each, encoding=encoding)).values(*SAMIS_TYPE_1) for each in (records, unusual, mixed)
        )
        assert plain == whole == both
        assert {row[SAMIS_TYPE_1.index("ServiceClassName")] for row in plain} == {"R&D été"}


def test_what_a_record_lacks_is_null_and_what_is_empty_is_empty():
    assert one("<a></a>") == {
        "a": "",
        "b": None,
        "ordinal": 1,
        "offset": len(xml_document([], None, has_end=False)),
        "fault": None,
    }
    assert one("<a/>")["a"] == ""
    assert one('<a xsi:nil="true"></a>')["a"] is None
    assert one('<a xsi:nil="false">1</a>')["a"] == "1"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("<a> 1\t\r\n </a>", "1"),
        ("<a>\n1 2\n</a>", "1 2"),
        ("<a>1\r\n2</a>", "1\n2"),
        ("<a>R&amp;D &lt;1&gt; &quot;&apos;</a>", "R&D <1> \"'"),
        ("<a>&amp;lt;&quot;</a>", '&lt;"'),
        ("<a>&amp; &#49;</a>", "& 1"),
        ("<a>&#49;&#x32;</a>", "12"),
        ("<a><![CDATA[</IPDR> & <IPDR>]]></a>", "</IPDR> & <IPDR>"),
        ("<a>1<!-- </IPDR> -->2</a>", "12"),
        ("<a>1<?p </IPDR> ?>2</a>", "12"),
        ("<!-- <a>2</a> --><a>1</a>", "1"),
        ("<a xsi:type='xsd:int' unit=\"octets\">1</a>", "1"),
        ("<a >1</a >", "1"),
        ("text<a>1</a>text", "1"),
        ("<b><a>2</a></b><a>1</a>", "1"),
        ("<a>été €</a>", "été €"),
        ("<a>a]b ]] c</a>", "a]b ]] c"),
        ("<é>2</é><a>1</a>", "1"),
    ],
)
def test_a_value_is_what_xml_says_it_is(content: str, value: str):
    assert (one(content, ("a",))["a"], one(content, ("a",))["fault"]) == (value, None)


@pytest.mark.parametrize("attributes", [' xsi:type="DOCSIS-Type"', " id='1' time = \"2\"", ' a="1>0"', "\n", ' a="/"'])
def test_attributes_of_a_record_do_not_matter(attributes: str):
    assert one("<a>1</a>", ("a",), attributes)["a"] == "1"


def test_a_record_without_content_is_a_record():
    reading = read(xml_document(["<IPDR/>", '<IPDR xsi:type="T" />', "<IPDR></IPDR>", "<i:IPDR></i:IPDR>"]), ("a",))

    assert [row["a"] for row in reading.rows] == [None] * 4
    assert reading.faults == [None] * 4


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "iso-8859-1", "UTF-8", "utf-8"])
def test_a_document_is_read_in_the_encoding_it_declares(encoding: str):
    reading = read(
        xml_document([ipdr(samis(1, ServiceClassName="Été")), ipdr(samis(2, ServiceClassName="Öl & Ø"))], encoding=encoding)
    )

    assert reading.values("ServiceClassName") == ["Été", "Öl & Ø"]


def test_a_byte_order_mark_is_header():
    reading = read(b"\xef\xbb\xbf" + SOUND)

    assert (reading.tally.records, reading.rows[0]["offset"]) == (3, SOUND.index(b"<IPDR ") + 3)


# Counting


def test_every_octet_is_header_record_or_padding():
    reading = read(SOUND)

    records = sum(len(record) - 1 for record in THREE)
    spaces = 3 + 4  # an end of line behind each record, and behind declaration, root, count and end
    assert reading.octets == (len(SOUND) - records - spaces, records, spaces, 0)


def test_ordinals_and_offsets_are_those_of_the_ipdr_tags():
    rows = read(SOUND).rows

    assert [row["ordinal"] for row in rows] == [1, 2, 3]
    assert all(SOUND[row["offset"] :].startswith(b"<IPDR ") for row in rows)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_count_that_differs_is_seen(count: int):
    reading = read(xml_document(THREE, count=count))

    assert reading.tally.records_declared == count
    assert count_warning(vars(reading.tally)) == {"record_count_differs": 1}


def test_a_document_need_not_have_a_count():
    reading = read(xml_document(THREE, count=None))

    assert (reading.tally.records_declared, reading.tally.warnings) == (None, {})


def test_a_count_that_is_no_number_is_seen():
    reading = read(SOUND.replace(b'count="3"', b'count="three"'))

    assert (reading.tally.records_declared, reading.tally.warnings) == (None, {"count_malformed": 1})


def test_documents_one_after_the_other_are_read_and_their_counts_added():
    reading = read(SOUND + SOUND)

    assert reading.tally.records == reading.tally.records_declared == 6
    assert reading.tally.warnings == {"document_repeated": 1}


def test_documents_in_more_than_one_encoding_are_refused():
    latin = xml_document([ipdr(samis(1, ServiceClassName="Été"))], encoding="ISO-8859-1")

    assert read(latin + latin).values("ServiceClassName") == ["Été", "Été"]
    for octets in (SOUND + latin, latin + SOUND, latin + latin[latin.index(b"<IPDRDoc") :]):
        assert read(octets).fault == "the documents in it are in more than one encoding"


def test_a_document_without_records_is_read():
    reading = read(xml_document([]))

    assert (reading.rows, reading.fault, reading.tally.records_declared) == ([], None, 0)


# Damage


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ("<IPDR><SFtype>1</RecType></IPDR>", "tag_mismatch"),
        ("<IPDR><serviceOctetsPassed>1404</ServiceOctetsPassed></IPDR>", "tag_mismatch"),
        ("<IPDR><a x='1' x='2'>1</a></IPDR>", "attribute_doubled"),
        ("<IPDR x='1' x='2'><a>1</a></IPDR>", "attribute_doubled"),
        ("<IPDR><a>&secret;</a></IPDR>", "entity_not_predefined"),
        ("<IPDR><a>1 & 2</a></IPDR>", "not_well_formed"),
        ("<IPDR><a>1 &amp 2</a></IPDR>", "not_well_formed"),
        ("<IPDR><a>&AMP;</a></IPDR>", "entity_not_predefined"),
        ("<IPDR><a>&amps;</a></IPDR>", "entity_not_predefined"),
        ("<IPDR><a>1 ]]> 2</a></IPDR>", "not_well_formed"),
        ("<IPDR><a>\x01</a></IPDR>", "not_well_formed"),
        ("<IPDR><a>\ufffe</a></IPDR>", "not_well_formed"),
        ("<IPDR><a>&#0;</a></IPDR>", "not_well_formed"),
        ("<IPDR><1>1</1></IPDR>", "not_well_formed"),
        ("<IPDR><a>1</IPDR>", "tag_mismatch"),
        ("<IPDR><a>1<!-- </a></IPDR>", "not_well_formed"),
        ("<IPDR><a>1<![CDATA[ </a></IPDR>", "not_well_formed"),
        ("<IPDR><a>1</a>", "record_not_closed"),
        ("<IPDR><a>1", "record_not_closed"),
        ("<i:IPDR><a>1</a></j:IPDR>", "tag_mismatch"),
        ("<IPDR>" + "<x>" * 20 + "</x>" * 20 + "</IPDR>", "nested_too_deep"),
        (f"<IPDR><{'x' * LONGEST_NAME_OCTETS}1/></IPDR>", "name_too_long"),
        (f"<IPDR><y {'x' * LONGEST_NAME_OCTETS}1='1'>2</y></IPDR>", "name_too_long"),
        ("<CmMacAddr>1</CmMacAddr>", "not_a_record"),
        ("</IPDR>", "not_a_record"),
        ("garbage", "not_a_record"),
        ("<![CDATA[x]]>", "not_a_record"),
    ],
)
@pytest.mark.parametrize("window_octets", [8 << 20, 100])
def test_damage_costs_one_record_and_no_other(record: str, fault: str, window_octets: int):
    octets = xml_document([THREE[0], record, THREE[2]], encoding="UTF-8")

    reading = read(octets, SAMIS_TYPE_1, window_octets)

    assert (reading.fault, reading.faults) == (None, [None, fault, None])
    assert reading.values(*SAMIS_TYPE_1) == [read(SOUND).values(*SAMIS_TYPE_1)[place] for place in (0, 2)]
    assert reading.octets[3] == len(record.encode())
    assert {reading.rows[1][name] for name in SAMIS_TYPE_1} == {None}


def test_octets_that_are_no_character_cost_their_record():
    reading = read(SOUND.replace(b"Gold", b"\xc3\x28", 1))

    assert reading.faults == ["not_well_formed", None, None]


@pytest.mark.parametrize(("content", "fault"), [("<a>1</a><a>1</a>", "element_doubled"), ("<a>1<c>2</c></a>", "element_nested")])
def test_what_cannot_be_told_is_null_and_the_rest_of_the_record_is_kept(content: str, fault: str):
    row = one(f"{content}<b>5</b>")

    assert (row["a"], row["b"], row["fault"]) == (None, "5", fault)


def test_two_names_of_one_column_in_a_record_are_not_chosen_between():
    row = one("<octetsPassed>1</octetsPassed><ServiceOctetsPassed>2</ServiceOctetsPassed>", ("ServiceOctetsPassed",))

    assert (row["ServiceOctetsPassed"], row["fault"]) == (None, "element_doubled")


def test_an_element_that_is_not_asked_for_may_come_twice():
    assert one("<c>1</c><c>2</c><a>3</a>")["a"] == "3"


def test_a_record_without_an_end_is_given_up_where_it_is_too_long():
    long = "<IPDR><a>" + "x" * (LONGEST_RECORD_OCTETS + 100)

    reading = read(xml_document([THREE[0], long, THREE[2]]), window_octets=1 << 18)

    assert reading.faults == [None, "record_too_long", None]
    assert reading.octets[3] == len(long)


def test_a_broken_root_tag_is_seen_and_costs_nothing():
    # As in Cisco's documentation of SAMIS.
    reading = read(SOUND.replace(b'docId="', b'docId="docId="'))

    assert reading.values(*SAMIS_TYPE_1) == read(SOUND).values(*SAMIS_TYPE_1)
    assert reading.tally.warnings == {"root_not_well_formed": 1}


def test_a_document_that_is_cut_off_anywhere_keeps_the_records_before():
    whole = read(SOUND).values(*SAMIS_TYPE_1)
    ends = [SOUND.index(record.encode()) + len(record) - 1 for record in THREE]
    root_end = SOUND.index(b'3.5">') + 5

    for cut in range(root_end, len(SOUND) - 1, 3):
        reading = read(SOUND[:cut])
        complete = sum(cut >= end for end in ends)
        assert reading.fault is None
        assert reading.values(*SAMIS_TYPE_1) == whole[:complete]
        assert reading.tally.warnings == {"truncated": 1}


@pytest.mark.parametrize("window_octets", [8 << 20, 40])
def test_a_record_behind_the_end_belongs_to_a_document_without_one(window_octets: int):
    assert read(SOUND + THREE[0].encode(), window_octets=window_octets).tally.warnings == {"truncated": 1}
    assert read(b"<IPDRDoc><IPDR/></IPDRDoc><IPDRDoc/>", window_octets=window_octets).tally.warnings == {"document_repeated": 1}


def test_a_record_that_is_cut_off_says_so():
    assert read(SOUND[: SOUND.rindex(b"</IPDR>")]).faults == [None, None, "truncated"]


# What is refused


@pytest.mark.parametrize(
    "declared",
    [
        b"<!DOCTYPE IPDRDoc>",
        b'<!DOCTYPE IPDRDoc [<!ENTITY a "b">]>',
        b'<!DOCTYPE IPDRDoc SYSTEM "file:///etc/passwd">',
        b'<!ENTITY a "b">',
        b"<!doctype IPDRDoc>",
    ],
)
@pytest.mark.parametrize("before", [b"<IPDRDoc ", b"<IPDR ", b"<CmMacAddr>", b"</IPDRDoc>"])
@pytest.mark.parametrize("window_octets", [8 << 20, 64])
def test_a_document_type_or_entity_is_refused_wherever_it_stands(declared: bytes, before: bytes, window_octets: int):
    reading = read(SOUND.replace(before, declared + before, 1), window_octets=window_octets)

    assert reading.fault == "it has a document type (DOCTYPE) or declares entities: such a document is not read"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "the file is empty"),
        (SOUND.decode().encode("utf-16"), "UTF-16"),
        (SOUND.decode().encode("utf-16-be"), "UTF-16"),
        (SOUND.decode().encode("utf-32-le"), "UTF-32"),
        (SOUND.replace(b"UTF-8", b"UTF-16", 1), "another encoding"),
        (SOUND.replace(b"UTF-8", b"windows-1252", 1), "another encoding"),
        (b"\xef\xbb\xbf" + SOUND.replace(b"UTF-8", b"ISO-8859-1", 1), "another encoding"),
        (b"subscriber,octets\n12345,1\n", "this is text, not an IPDRDoc"),
        (b"\x00\x00\x00\x04\x00\x00\x00\x00", "this is binary, not an IPDRDoc"),
        (b"\x1f\x8b\x08", "gzip-compressed"),
        (b"<html><IPDR></IPDR></html>", "this is XML, but its root is not an IPDRDoc"),
        (b"<IPDR><a>1</a></IPDR>", "this is XML, but its root is not an IPDRDoc"),
        (b"<?xml version='1.0'?><!-- <IPDRDoc> -->", "this is XML, but its root is not an IPDRDoc"),
        (b"<" + b"x" * 5000, "this is XML, but its root is not an IPDRDoc"),
    ],
)
def test_what_is_no_ipdrdoc_is_refused_by_name_and_never_quoted(octets: bytes, reason: str):
    reading = read(octets, SOME)

    assert reading.fault is not None
    assert reason in reading.fault
    assert "12345" not in reading.fault
    assert reading.rows == []


def test_a_comment_may_come_before_the_root():
    assert read(SOUND.replace(b"<IPDRDoc ", b"<!-- <!DOCTYPE a> --><?p x?>\n<IPDRDoc ", 1)).tally.records == 3


def test_openings_without_an_end_take_no_time():
    # 200,000 comments that never close: each must not be searched for to the end of the window again.
    reading = read(xml_document(["<IPDR><a>1<!-- </a></IPDR>"] * 200_000), ("a",))

    assert set(reading.faults) == {"not_well_formed"}


# Windows, and another parser

VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12)
RECORDS = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("CmMacAddr", "ServiceClassName", "RecType", "Other"), VALUES)),
    max_size=6,
)
DAMAGES = st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3)), max_size=3)


@settings(max_examples=60, deadline=None)
@given(records=RECORDS)
def test_sound_documents_are_read_as_another_parser_reads_them(records: list[Values]):
    octets = xml_document([ipdr(values) for values in records])
    columns = ("CmMacAddr", "ServiceClassName", "RecType", "Absent")

    reading = read(octets, columns, 64)

    # White space of other scripts is a character like any other.
    assert [{name: row[name] for name in columns} for row in reading.rows] == of_xml(octets, columns)
    assert reading.faults == [None] * len(records)


@settings(max_examples=60, deadline=None)
@given(damages=DAMAGES, window_octets=st.integers(1, 700))
def test_the_size_of_a_window_never_changes_the_result(damages: list[tuple[int, bytes]], window_octets: int):
    octets = SOUND
    for at, inserted in damages:
        octets = octets[: at % len(octets)] + inserted + octets[at % len(octets) + 1 :]

    whole, other = read(octets), read(octets, window_octets=window_octets)

    assert (whole.fault is None) == (other.fault is None)
    if whole.fault is None:
        assert (whole.rows, whole.tally) == (other.rows, other.tally)


@pytest.mark.parametrize("names", [None, DOCSIS_2_NAMES])
def test_both_versions_are_read_as_another_parser_reads_them(names: dict[str, str] | None):
    octets = xml_document([ipdr(samis(number), names) for number in range(50)])

    found = read(octets).rows

    assert [{name: row[name] for name in SAMIS_TYPE_1} for row in found] == of_xml(octets, SAMIS_TYPE_1)


# Samples


def of_csv(name: str) -> list[Values]:
    """Rows of a CSV twin: schema, namespace, names, then values."""
    lines = (SAMPLES / name).read_text(encoding="utf-8").splitlines()[2:]
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def milliseconds(epoch: str) -> str:
    """The library's mistake: what counts seconds since 1970 in the CSV it writes in XML as if it counted milliseconds."""
    number = int(epoch)
    return f"1970-01-{1 + number // 86_400_000:02}T" + ":".join(
        f"{number // size % base:02}" for size, base in ((3_600_000, 24), (60_000, 60), (1000, 60))
    ) + f".{number % 1000:03}Z"  # fmt: skip


@needs_samples
def test_the_sample_of_voip_has_the_rows_of_its_csv():
    twins = of_csv("testVOIP.1.csv")
    names = [name for name in twins[0] if name]

    rows = read((SAMPLES / "testVOIP.1.xml").read_bytes(), names).rows

    assert len(rows) == len(twins) == 30
    for row, twin in zip(rows, twins, strict=True):
        for name in names:
            expected = twin[name]
            # In XML, instants and addresses are written out; the CSV has them as numbers.
            if expected and name in ("startTime", "endTime", "startAccessTime", "endAccessTime"):
                expected = milliseconds(expected)
            elif expected and name in ("ipAddress", "ipAddressIngressDevice", "ipAddressEgressDevice"):
                expected = ".".join(str(octet) for octet in (int(expected) & 0xFFFFFFFF).to_bytes(4, "big"))
            assert (row[name] or "") == expected, name


@needs_samples
@pytest.mark.parametrize("name", ["testSM.csv", "testVOIP.1.csv"])
def test_a_sample_of_text_written_as_xml_and_xdr_gives_its_rows(name: str):
    twins = [{column: value for column, value in twin.items() if column} for twin in of_csv(name)]
    columns = tuple(twins[0])

    of_xml = read(xml_document([ipdr(twin) for twin in twins]), columns)
    of_xdr = read_with(read_ipdr_xdr, xdr_document(twins, dict.fromkeys(columns, STRING)), columns)

    assert of_xdr.values(*columns) == [tuple(twin.values()) for twin in twins]
    assert of_xml.values(*columns) == [tuple(value.strip() for value in twin.values()) for twin in twins]


@needs_samples
def test_the_samples_are_read_as_another_parser_reads_them():
    for name, columns in (("primitiveTypes.1.xml", ("myInt", "myString")), ("testVOIP.1.xml", ("subscriberID", "ipAddress"))):
        octets = (SAMPLES / name).read_bytes()
        reading = read(octets, columns)

        assert [{column: row[column] for column in columns} for row in reading.rows] == of_xml(octets, columns)
        assert reading.tally.records == reading.tally.records_declared
        assert reading.tally.warnings == {}
