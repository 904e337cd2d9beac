"""FreeRADIUS detail files: every packet is read with its place, a missing counter is null, and damage stays with its packet."""

from __future__ import annotations

import gzip
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.readers import radius_walk as walk
from jobs.readers.block import WHOLE, Part, ReadFault, Tally
from jobs.readers.radius_detail import HEAD_OCTETS, HEADER_TIME, parts, read_radius_detail
from tests.readers.radius_files import AT, COLUMNS, SAMPLES, Reading, packet, parsed, quoted, read

START = packet(User_Name='"ana"', Acct_Status_Type="Start", Timestamp="1315923867")
STOP = packet(User_Name='"ana"', Acct_Status_Type="Stop", Acct_Session_Time="60", Acct_Input_Octets="0", Timestamp="1315923927")
LATER = "Wed Sep 14 00:00:00 2011"


def one(*lines: str, **attributes: str) -> dict[str, Any]:
    """The attributes of a packet that is sound."""
    reading = read(packet(*lines, **attributes))
    assert reading.faults == [None]
    return reading.sound[0]


def fault(*lines: str, **attributes: str) -> str | None:
    """What is wrong with a packet; the ones before and behind it are sound."""
    between = packet(*lines, **attributes)
    reading = read(START + between + STOP)
    assert reading.faults[0] is reading.faults[2] is None
    assert reading.positions == [(1, 0), (2, len(START)), (3, len(START + between))]
    damaged = len(between) if reading.faults[1] else 0
    assert reading.octets == (0, len(START + between + STOP) - damaged, 0, damaged)
    return reading.faults[1]


# What a packet is, and where


def test_a_packet_is_a_row_with_its_ordinal_and_octet():
    reading = read(START + STOP)

    assert reading.sound == [
        {"User-Name": "ana", "Acct-Status-Type": "Start", "Timestamp": "1315923867", HEADER_TIME: AT},
        {
            "User-Name": "ana",
            "Acct-Status-Type": "Stop",
            "Acct-Session-Time": "60",
            "Acct-Input-Octets": "0",
            "Timestamp": "1315923927",
            HEADER_TIME: AT,
        },
    ]
    assert reading.positions == [(1, 0), (2, len(START))]
    assert reading.octets == (0, len(START + STOP), 0, 0)
    assert reading.tally.records == 2


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the project")
def test_the_sample_of_freeradius_is_read():
    octets = (SAMPLES / "freeradius_detail_one.txt").read_bytes()
    columns = (*COLUMNS, "Calling-Station-Id", "NAS-Port-Type", "NAS-Port", "Acct-Unique-Session-Id")

    reading = read(octets, columns)

    assert reading.sound == [
        {
            "User-Name": "bob",
            "NAS-IP-Address": "10.10.0.179",
            "NAS-Port": "0",
            "NAS-Port-Type": "Wireless-802.16",
            "Calling-Station-Id": "0123456789",
            "Acct-Unique-Session-Id": "ed8119f6919c6f6f",
            "Acct-Status-Type": "Start",
            "Timestamp": "1554226681",
            HEADER_TIME: "Tue Sep 13 16:24:27 2011",
        }
    ]
    assert reading.octets == (0, 251, 0, 0)
    assert reading.tally.warnings == {"last_packet_without_empty_line": 1}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the project")
def test_attribute_lists_without_header_lines_are_no_detail_file():
    for path in sorted(SAMPLES.glob("*.attrs")):
        reading = read(path.read_bytes())
        assert (reading.packets, reading.refusal) == ([], "this is text, not a FreeRADIUS detail file")


def test_the_attributes_of_the_sample_of_a_broadband_packet_are_read():
    pairs = [
        "User-Name = 'user2@example.org'",
        "Acct-Input-Gigawords = 1",
        "Event-Timestamp = 'Feb  1 2015 08:28:58 WIB'",
        "NAS-Port-Id = 'port 001'",
        "Service-Type = ::Framed-User",
        "Vendor-Specific.ADSL-Forum.Access-Loop-Encapsulation = 0x000000",
        "Tunnel-Type:0 = L2TP",
    ]
    columns = [pair.split(" = ")[0] for pair in pairs]

    assert read(packet(*pairs), columns).sound == [
        {
            "User-Name": "user2@example.org",
            "Acct-Input-Gigawords": "1",
            "Event-Timestamp": "Feb  1 2015 08:28:58 WIB",
            "NAS-Port-Id": "port 001",
            "Service-Type": "::Framed-User",
            "Vendor-Specific.ADSL-Forum.Access-Loop-Encapsulation": "0x000000",
            "Tunnel-Type:0": "L2TP",
        }
    ]


def test_a_counter_that_is_not_there_is_null_and_zero_is_zero():
    reading = read(
        packet(Acct_Input_Octets="0") + packet(Acct_Input_Gigawords="0"), ("Acct-Input-Octets", "Acct-Input-Gigawords")
    )

    assert [values for _, _, _, values in reading.packets] == [
        {"Acct-Input-Octets": "0", "Acct-Input-Gigawords": None},
        {"Acct-Input-Octets": None, "Acct-Input-Gigawords": "0"},
    ]


def test_only_the_columns_asked_for_leave_the_reader_in_their_order():
    blocks = list(read_radius_detail(pa.BufferReader(START), ("Timestamp", "User-Name"), Tally()))

    assert [block.records.schema for block in blocks] == [pa.schema([("Timestamp", pa.string()), ("User-Name", pa.string())])]


def test_a_name_is_taken_as_a_whole_and_as_it_is_written():
    reading = read(packet(User_Name="1", User_Name_2="2", XUser_Name="3", user_name="4"), ("User-Nam", "User-Name", "User-name"))

    assert reading.sound == [{"User-Name": "1"}]


def test_names_that_hardly_differ_are_told_apart():
    names = ["A", "B", "AB", "BA", "ABC", "Acct-xInput-Octets", "Acct-yInput-Octets", "Acct-Input-Octets", "Acct-Input-Octets.1"]

    assert read(packet(*(f"{name} = {n}" for n, name in enumerate(names))), names[::-1]).sound == [
        {name: str(n) for n, name in enumerate(names)}
    ]


def test_no_attribute_can_pass_for_the_header_line():
    assert one(Packet_Header_Time='"Thu Jan  1 00:00:00 1970"') == {HEADER_TIME: AT}


def test_a_column_is_asked_for_once():
    with pytest.raises(ValueError, match=r"^a column is asked for twice$"):
        read(START, ("User-Name", "User-Name"))


def test_hundreds_of_columns_may_be_asked_for():
    pairs = [f"Attr-{n} = {n}" for n in range(500)]

    assert read(packet(*pairs), [f"Attr-{n}" for n in range(0, 600, 3)]).sound == [
        {f"Attr-{n}": str(n) for n in range(0, 500, 3)}
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CR LF"])
def test_a_line_ends_with_lf_or_cr_lf(end):
    octets = packet(User_Name='"ana"', end=end) + packet(User_Name="bob", end=end)

    reading = read(octets)

    assert [values["User-Name"] for values in reading.sound] == ["ana", "bob"]
    assert reading.positions == [(1, 0), (2, len(octets) // 2 + 1)]
    assert reading.octets == (0, len(octets), 0, 0)


def test_the_empty_line_behind_a_packet_belongs_to_it_and_others_are_padding():
    reading = read(b"\n\r\n" + START + b"\n\n" + STOP + b"\r\n")

    assert reading.positions == [(1, 3), (2, 5 + len(START))]
    assert reading.octets == (0, len(START + STOP), 7, 0)


@pytest.mark.parametrize("octets", [b"", b"\n", b"\r\n\n\n", b"\n" * (HEAD_OCTETS + 9)], ids=["empty", "LF", "some", "many"])
def test_a_file_of_empty_lines_has_no_packets(octets):
    reading = read(octets)

    assert (reading.packets, reading.refusal, reading.octets) == ([], None, (0, 0, len(octets), 0))


def test_a_byte_order_mark_is_header():
    reading = read(b"\xef\xbb\xbf" + START)

    assert (reading.positions, reading.faults, reading.octets) == ([(1, 3)], [None], (3, len(START), 0, 0))


@pytest.mark.parametrize("at", ["Tue Sep  6 16:24:27 2011", "Tue Sep 06 16:24:27 2011", "Sat Dec 31 23:59:60 2016"])
def test_the_day_of_a_header_has_one_digit_or_two_and_a_minute_may_have_a_leap_second(at):
    assert read(packet(User_Name="1", at=at)).sound == [{"User-Name": "1", HEADER_TIME: at}]


# Values


@pytest.mark.parametrize("operator", ["=", ":=", "+="])
def test_the_operator_says_nothing_of_the_value(operator):
    assert one(f"User-Name {operator} ana")["User-Name"] == "ana"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("ana", "ana"),
        ("", ""),
        ('""', ""),
        ("''", ""),
        ('"a = b"', "a = b"),
        ("a = b", "a = b"),
        (r'"DOMAIN\\ana"', r"DOMAIN\ana"),
        (r'"say \"hi\""', 'say "hi"'),
        (r'"a\nb\rc\td"', "a\nb\rc\td"),
        (r'"\303\251t\303\251"', "été"),
        ('"été"', "été"),
        (r'"é\303\251"', "éé"),
        (r'"\\303"', r"\303"),
        (r'"\\"', "\\"),
        ('"it\'s"', "it's"),
        (r"'it\'s'", "it's"),
        (r"'a\\b'", r"a\b"),
        (r"'a\nb'", r"a\nb"),
        ("'say \"hi\"'", 'say "hi"'),
        ("0x0102", "0x0102"),
        (r"DOMAIN\ana", r"DOMAIN\ana"),
        ('an"a', 'an"a'),
        (f'"{AT}"', AT),
    ],
)
def test_quotes_are_removed_and_escapes_undone(written, value):
    assert one(User_Name=written)["User-Name"] == value


@pytest.mark.parametrize("quote", ['"', "'"])
def test_every_character_comes_back_as_it_was_written(quote):
    text = "".join(chr(one) for one in [*range(1, 0x180), 0x2028, 0xFFFD, 0x1F600] if quote == '"' or one not in (10, 13))

    assert one(User_Name=quoted(text, quote))["User-Name"] == text


def test_an_attribute_that_is_repeated_with_the_same_value_counts_once():
    assert one(r'User-Name = "a\\b"', r"User-Name = 'a\\b'", r"User-Name := a\b", Class="0x1")["User-Name"] == r"a\b"


# Faults of a packet


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["User-Name = ana", "User-Name = bob"], "attribute_repeated"),
        (["User-Name = ana", "User-Name = an"], "attribute_repeated"),
        (["Acct-Input-Octets = 0", "Acct-Input-Octets = 00"], "attribute_repeated"),
        (["Cisco-AVPair = a", "Cisco-AVPair = b"], None),
        (["User-Name"], "attribute_malformed"),
        (["User-Name ="], "attribute_malformed"),
        (["User-Name=ana"], "attribute_malformed"),
        (["User-Name : ana"], "attribute_malformed"),
        (["User-Name == ana"], "attribute_malformed"),
        (["User Name = ana"], "attribute_malformed"),
        ([" = ana"], "attribute_malformed"),
        (["\t "], "attribute_malformed"),
        (['User-Name = "ana'], "quoting_broken"),
        (['User-Name = "'], "quoting_broken"),
        ([r'User-Name = "ana\"'], "quoting_broken"),
        (['User-Name = "a"na"'], "quoting_broken"),
        (["User-Name = 'ana\""], "quoting_broken"),
        (['Reply-Message = "ana'], "quoting_broken"),
        ([r'Reply-Message = "ana\"'], "quoting_broken"),
        ([r'Reply-Message = "\q"'], None),
        ([r'User-Name = "\q"'], "escape_malformed"),
        ([r'User-Name = "\12"'], "escape_malformed"),
        ([r'User-Name = "\400"'], "escape_malformed"),
        ([r'User-Name = "\351"'], "value_not_utf_8"),
        ([r'User-Name = "\303"'], "value_not_utf_8"),
        ([r'User-Name = "ana\000"'], "value_not_utf_8"),
        ([r'Reply-Message = "\351"'], None),
        (["User-Name = an\0a"], "not_utf_8"),
        (["Reply-Message = an\0a"], "not_utf_8"),
        (["User-Name = an\ra"], "line_end_broken"),
        (["User-Name = ana\r\r"], "line_end_broken"),
        (["Reply-Message = " + "x" * walk.LONGEST_LINE_OCTETS], "line_too_long"),
        (["Reply-Message = x"] * 70_000, "packet_too_long"),
        ([f"Reply-Message = {AT}"], "truncated"),
        ([], "no_attributes"),
    ],
    ids=lambda value: None if isinstance(value, str | None) else repr(value[0][:40] if value else ""),
)
def test_a_packet_with_a_fault_is_quarantined_and_its_neighbours_are_sound(lines, expected):
    assert fault(*lines) == expected


def test_a_faulty_packet_has_no_attributes():
    reading = read(packet("User-Name = ana", "User-Name = bob"))

    assert reading.packets == [(1, 0, "attribute_repeated", dict.fromkeys(COLUMNS))]


@pytest.mark.parametrize(
    "octets", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\x80"]
)
def test_octets_that_are_no_utf_8_spoil_their_packet_only(octets):
    reading = read(START + packet(User_Name="ana", Class="0x1").replace(b"0x1", octets) + STOP)

    assert reading.faults == [None, "not_utf_8", None]


def test_a_line_within_a_packet_that_is_neither_indented_nor_a_header_spoils_its_packet():
    reading = read(START + packet(User_Name="ana").replace(b"\n\n", b"\nUser-Name = ana\n\n") + STOP)

    assert reading.faults == [None, "line_not_indented", None]


@pytest.mark.parametrize(
    "header",
    [
        b"Tue Sep 13 16:24:27 201",
        b"Txe Sep 13 16:24:27 2011",
        b"2011-09-13T16:24:27Z",
        b"Tue Sep 13 24:24:27 2011",
        b"Tue Sep 13 16:24:27 2011 x",
    ],
)
def test_lines_behind_something_that_is_no_header_are_no_packet(header):
    damaged = START.replace(AT.encode(), header)

    reading = read(START + damaged + STOP)

    assert reading.faults == [None, "header_missing", None]
    assert reading.octets == (0, len(START + STOP), 0, len(damaged))
    assert (reading.tally.records, reading.tally.spans_quarantined) == (3, 1)


def test_a_packet_without_its_header_line_is_found_and_counted():
    reading = read(START + b"\tUser-Name = ana\n\n" + STOP)

    assert reading.faults == [None, "header_missing", None]


def test_a_header_line_within_a_packet_begins_another_and_the_first_was_cut_off():
    reading = read(START + START[:-1] + STOP)

    assert reading.faults == [None, "truncated", None]
    assert reading.octets == (0, len(START + STOP), 0, len(START) - 1)


@pytest.mark.parametrize("cut", range(1, len(STOP)))
def test_a_packet_that_was_cut_off_by_another_is_truncated_and_the_other_is_sound(cut):
    # As when the server was killed while it wrote, and went on in the same file.
    reading = read(START + STOP[:cut] + START)

    if STOP[:cut].endswith(b" = "):  # Whether the header is a value, nobody can tell.
        assert reading.faults == [None, "truncated"]
    else:
        assert reading.faults == [None, "header_missing" if cut < len(AT) else "truncated", None]
        assert reading.sound[1] == reading.sound[0]


@pytest.mark.parametrize("cut", range(1, len(STOP)))
def test_a_packet_that_the_end_of_the_file_cuts_off_is_truncated_unless_its_last_line_is_complete(cut):
    reading = read(START + STOP[:cut])

    is_complete = STOP[:cut].endswith(b"\n") and cut > 25
    assert reading.faults == [None, None if is_complete else "header_missing" if cut < 24 else "truncated"]
    assert reading.tally.warnings == ({"last_packet_without_empty_line": 1} if is_complete else {})
    assert sum(reading.octets) == len(START) + cut


def test_a_packet_that_never_ends_is_not_kept_in_memory_and_the_next_is_sound():
    endless = AT.encode() + b"\n" + b"\tUser-Name = ana\n" * 70_000
    line = AT.encode() + b"\n\tUser-Name = " + b"x" * 1_500_000 + b"\n"
    octets = START + endless + STOP + line + b"\n" + STOP + line[:-1] + STOP

    readings = [read(octets, window_octets=window) for window in (4 << 20, 100_003, 8192)]

    assert readings[0].faults == [None, "packet_too_long", None, "packet_too_long", None, "packet_too_long", None]
    assert readings[0].octets == (0, len(START + STOP * 3), 0, len(endless + line * 2))
    assert all((one.packets, one.octets) == (readings[0].packets, readings[0].octets) for one in readings)


# What is no detail file


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"who,octets\nana,1\n", "this is text, not a FreeRADIUS detail file"),
        (b"<?xml version='1.0'?><a/>", "this is XML, not a FreeRADIUS detail file"),
        (b"\x1f\x8b\x08\0\0", "this is gzip-compressed, but its name does not end in .gz, not a FreeRADIUS detail file"),
        (bytes(range(256)) * 4, "this is not a FreeRADIUS detail file"),
        (b"\xbf\x4f\x82\x01\x00\x80\x01\x55", "this is not a FreeRADIUS detail file"),
        (AT[:-1].encode(), "this is text, not a FreeRADIUS detail file"),
        (AT.encode() + b" secret\n", "this is text, not a FreeRADIUS detail file"),
        (
            b"2011-09-13\n\tUser-Name = secret\n\n",
            "its packets have no header line as ctime writes it, so this is not a FreeRADIUS detail file as it comes",
        ),
        (b"x" * HEAD_OCTETS + b"\n" + START, "this is text, not a FreeRADIUS detail file"),
    ],
    ids=["CSV", "XML", "gzip", "binary", "BER", "cut in its header", "header of another form", "ISO header", "too late"],
)
def test_a_file_that_is_something_else_is_refused_without_showing_its_content(octets, said):
    for window_octets in (1 << 20, 7):
        reading = read(octets, window_octets=window_octets)
        assert (reading.packets, reading.refusal) == ([], said)
    with pytest.raises(ReadFault):
        parts(pa.BufferReader(octets), 1 << 20)


def test_a_file_that_begins_with_damage_is_read_all_the_same():
    assert read(b"\xff\xfe\0\n\n" + START).faults == ["header_missing", None]


def test_a_damaged_gzip_stream_is_refused():
    packed = gzip.compress(START * 100)[:-9]

    with pytest.raises(ReadFault, match=r"^the compressed stream is damaged or truncated$"):
        list(read_radius_detail(pa.CompressedInputStream(pa.BufferReader(packed), "gzip"), COLUMNS, Tally()))


# Parts


def in_parts(octets: bytes, part_octets: int) -> tuple[Reading, list[Part]]:
    """A file that is read in parts, put together."""
    together, found = Reading(), parts(pa.BufferReader(octets), part_octets)
    for part in found:
        reading = read(octets, part=part, window_octets=64)
        assert reading.refusal is None
        together.packets += reading.packets
        together.octets = tuple(map(sum, zip(together.octets, reading.octets, strict=True)))  # type: ignore[assignment]
        together.tally.records += reading.tally.records
    return together, found


def test_parts_begin_with_a_header_line_and_know_its_ordinal():
    octets = (START + STOP) * 10

    together, found = in_parts(octets, 3 * len(START + STOP))

    pair = len(START + STOP)
    assert found == [Part(0, 3 * pair, 1), Part(3 * pair, 6 * pair, 7), Part(6 * pair, 9 * pair, 13), Part(9 * pair, None, 19)]
    assert together.packets == read(octets).packets


def test_a_small_file_is_one_part():
    assert parts(pa.BufferReader(START), 1 << 20) == [WHOLE]
    assert parts(pa.BufferReader(b""), 1 << 20) == [WHOLE]


def test_no_part_begins_where_a_packet_was_cut_off():
    octets = START + START[:-1] + STOP + b"\tUser-Name = x\n" + START[:40] + STOP

    together, found = in_parts(octets, 1)

    assert [part.begin_octet for part in found] == [0, len(START), len(START * 2 + STOP) - 1]
    assert together.packets == read(octets).packets


# Properties

ORDINARY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
UNQUOTED = st.from_regex(r"[0-9a-zA-Z.:-]{1,20}", fullmatch=True)
VALUES = ORDINARY.map(lambda text: (quoted(text), text)) | UNQUOTED.map(lambda text: (text, text))
PACKETS = st.lists(st.dictionaries(st.sampled_from([*COLUMNS[:-1], "Reply-Message", "Class2"]), VALUES, min_size=1), max_size=8)


@settings(max_examples=150, deadline=None)
@given(PACKETS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["=", ":=", "+="]), st.integers(1, 400))
def test_what_was_written_is_read_whatever_the_window(packets, end, operator, window_octets):
    octets = b"".join(
        packet(*(f"{name} {operator} {written}" for name, (written, _) in values.items()), end=end) for values in packets
    )

    reading = read(octets, window_octets=window_octets)

    expected = [{name: text for name, (_, text) in values.items() if name in COLUMNS} | {HEADER_TIME: AT} for values in packets]
    assert reading.sound == expected
    assert reading.octets == (0, len(octets), 0, 0)


FRAGMENTS = [
    b"\n",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r",
    b"\t",
    b" ",
    b"=",
    b" = ",
    b'"',
    b"'",
    b"\\",
    b"\\303",
    b"\xe9",
    b"\xc3\xa9",
    b"\0",
]
FRAGMENTS += [AT.encode(), AT.encode() + b"\n", START, STOP, b"\tUser-Name = ", b'\tUser-Name += "ana"\n', b"\tClass = 0x1\n"]
NOISE = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=25).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(NOISE, st.integers(1, 300), st.integers(1, 300))
@example(b"\tUser-Name = ana" + START, 1, 1)
@example(AT.encode() + b"\r", 1, 1)
def test_of_any_octets_the_reader_says_what_the_second_parser_says_whatever_window_and_parts(noise, window_octets, part_octets):
    octets = START + noise
    expected = parsed(octets)

    reading = read(octets, window_octets=window_octets)
    together, _ = in_parts(octets, part_octets)

    assert reading.packets == together.packets == expected.packets
    assert reading.octets == together.octets == expected.octets
    assert sum(reading.octets) == reading.tally.octets == len(octets)
    assert reading.tally.records == together.tally.records == len(reading.packets)


def test_every_flipped_bit_is_judged_as_the_second_parser_does_and_spoils_no_other_packet():
    octets = START + STOP + packet(User_Name=quoted("a\\b"), NAS_IP_Address="192.0.2.1", at=LATER)
    whole = read(octets).packets
    for bit in range(len(octets) * 8):
        damaged = bytearray(octets)
        damaged[bit // 8] ^= 1 << bit % 8
        reading = read(bytes(damaged))
        assert reading.packets == parsed(bytes(damaged)).packets
        kept = [values for _, _, fault, values in reading.packets if fault is None]
        assert sum(values in kept for _, _, _, values in whole) >= 2 or bit // 8 in (len(START) - 1, len(START + STOP) - 1)
