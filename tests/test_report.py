"""The month report tells what the lake's own tables say, in a page that stands alone, and never of a few subscriptions."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from factors.hypotheses import hypotheses_of
from factors.registry import load
from jobs import cli, completeness
from jobs.lake_reader import in_memory, publication, reading
from jobs.report import place, received, standing, subscriptions
from jobs.report.cells import LEAST_SUBSCRIPTIONS, classes_together, is_small, kinds_together, networks_shown
from jobs.report.drawing import FULL, PHONE, Told, drawn, sankey
from jobs.report.flow import Flow, Node
from jobs.report.numbers import gigabytes, measured, percent, seconds, tonnes
from jobs.report.page import report
from jobs.run import CallError, Refused, Settings
from schemas.tables import ESTIMATED, REVISIONS, TABLES
from tests.audit_lake import MONTH, write
from tests.report_lake import FIXED, MOBILE, used, write_lake

VOID = {"meta", "link", "br", "input", "img", "hr"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return write_lake(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(settings: Settings) -> str:
    return report(settings, MONTH, None, None).read_text(encoding="utf-8")


class Page(HTMLParser):
    """A page as it is nested; an end tag that closes something else, or nothing, is kept as an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.errors: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self._inside: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()
        self.errors += [f"{tag} is never closed" for tag in self._inside]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len({name for name, _ in attrs}) != len(attrs):
            self.errors.append(f"{tag} has an attribute twice")
        if tag not in VOID:
            self._inside.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._inside or self._inside.pop() != tag:
            self.errors.append(f"</{tag}> closes nothing of its own")
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "caption" in self._inside:
            self._caption += data
        elif self._inside and self._inside[-1] in ("td", "th"):
            self._rows[-1][-1] += data
        if "style" not in self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def column(self, caption: str, head: str) -> dict[tuple[str, ...], str]:
        """A column of a table by what its rows are called."""
        heads, *lines = self.tables[caption]
        at = heads.index(head)
        return {tuple(line[:1]): line[at] for line in lines}


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


# The page


def test_the_page_is_sound_html_and_ids_are_told_apart(page: Page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]

    assert page.errors == []
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    assert page.named("html") == [{"lang": "en"}]


def test_what_is_referred_to_is_there(page: Page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= ids
        href = attributes.get("href") or ""
        assert not href.startswith("#") or href[1:] in ids


def test_nothing_is_loaded_from_anywhere(html: str, page: Page):
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "img", "object", "embed")
        for name in ("src", "href", "action", "xlink:href", "srcset", "data", "poster"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or "")
    assert "default-src 'none'" in html
    assert not re.search(r"url\((?!#)|@import", html)


def test_headings_descend_without_a_gap_and_landmarks_hold_everything(page: Page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert [tag for tag, _ in page.elements if tag in ("header", "nav", "main", "footer")] == ["header", "nav", "main", "footer"]


def test_every_figure_has_a_name_a_description_and_a_table(page: Page):
    for figure in page.named("svg"):
        assert figure["role"] == "img"
        assert len((figure["aria-labelledby"] or "").split()) == 2
    tables = len(page.named("table"))
    assert tables == len(page.named("caption")) == len(page.tables)
    assert len(page.named("svg")) == 2 * len(page.named("figure"))
    assert all(attributes.get("scope") for attributes in page.named("th"))


def test_the_same_lake_gives_the_same_octets(settings: Settings, html: str, tmp_path: Path):
    again = report(settings, MONTH, None, settings.reports / "again.html")

    assert again.read_text(encoding="utf-8") == html
    assert place(settings, MONTH, 1).name == "2026-10.html"
    assert place(settings, MONTH, 2).name == "2026-10-revision-2.html"


def test_the_verdict_links_to_its_data_docs_from_where_the_page_lies(settings: Settings, page: Page, tmp_path: Path):
    links = [a["href"] for a in page.named("a") if not (a["href"] or "").startswith("#")]
    assert links == ["../data_docs/2026-10/index.html"]

    elsewhere = report(settings, MONTH, None, tmp_path / "elsewhere.html")
    (link,) = [a["href"] for a in Page(elsewhere.read_text(encoding="utf-8")).named("a") if not (a["href"] or "").startswith("#")]
    assert (tmp_path / str(link)).resolve() == settings.data_docs / "2026-10" / "index.html"


def test_a_month_that_is_not_published_and_a_place_that_is_not_there_are_said(settings: Settings, tmp_path: Path):
    with pytest.raises(Refused, match="nothing is published for 2025-01"):
        report(settings, date(2025, 1, 1), None, None)
    with pytest.raises(CallError, match=r"--out: .*nowhere is not a folder"):
        report(settings, MONTH, None, tmp_path / "nowhere" / "page.html")


def test_the_command_says_where_the_page_is(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))

    assert cli.main(["report", "--month", "2026-10"]) == 0
    assert re.fullmatch(rf"report    {settings.reports}/2026-10\.html, [\d,]+ octets\n", capsys.readouterr().out)


def test_without_its_library_the_report_is_said_to_be_an_extra(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    import sys

    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    for name in [name for name in sys.modules if name.startswith("jobs.report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert cli.main(["report", "--month", "2026-10"]) == 2
    assert "pip install footprint[report]" in capsys.readouterr().err


# Its figures, against the tables of the lake added up in Python


def table_of(settings: Settings, name: str) -> list[dict[str, Any]]:
    return list(DeltaTable(f"{settings.lake}/{name}").to_pyarrow_table().to_pylist())


def test_the_sums_are_those_that_were_published(settings: Settings, page: Page):
    (ledger,) = [row for row in table_of(settings, "publications") if row["usage_month"] == MONTH]
    shown = page.tables["Published, by network"][-1]

    assert shown[:3] == ["All", f"{ledger['subscriptions']:,}", gigabytes(ledger["data_volume_bytes"])]
    assert shown[5] == tonnes(ledger["footprint_gco2e"])
    octets = [
        int(line[2].replace(",", ""))
        for line in page.tables["Octets from source to publication"][1:]
        if line[1] in ("fixed", "mobile")
    ]
    assert sum(octets) == ledger["data_volume_bytes"]


def test_every_subscription_is_in_one_class_of_each_distribution(settings: Settings, page: Page):
    for network, subscribed in (("Mobile", MOBILE), ("Fixed", FIXED)):
        for measure in ("volume, GB", "footprint, gCO2e"):
            lines = page.tables[f"{network}: subscriptions by {measure}"][1:]
            assert len(lines) > 3
            assert sum(int(line[1].replace(",", "")) for line in lines) == subscribed


def test_technologies_add_up_to_the_volume_and_three_users_of_2g_are_not_told_of(settings: Settings, page: Page):
    with reading(settings.lake, TABLES) as connection:
        found = subscriptions.technologies(connection, publication(connection, MONTH, None), ("mobile",))
    octets = sum(up + down for each in used() if each.network == "mobile" for _, _, up, down in each.volumes)

    assert sum(part.gigabytes for part in found) == Decimal(octets).scaleb(-9)
    assert not any("2g" in part.name for part in found)
    assert "2 others together" in [part.name for part in found]
    assert "2g" not in page.text


def test_records_are_told_by_source_and_outcome_and_add_up(page: Page):
    heads, *lines, sums = page.tables["Records by source, and the octets of their files"]

    assert [line[:2] for line in lines] == [["bng_radius", "1"], ["chf_ts32297", "1"], ["pgw_pipe", "1"]]
    assert sums == ["All", "3", "1,490", "1,420", "20", "3", "47", "10,000", "10"]  # 1,000 + 400 + 90 received
    assert heads[2:7] == ["Received", "Accepted", "Duplicate", "Rejected", "Out of scope"]
    reasons = {line[0]: line[2] for line in page.tables["Records that do not count, by reason"][1:]}
    assert reasons == {"too few fields": "2", "time malformed": "1", "ims apn": "40", "inbound roamer": "7"}
    assert "1 more files, with 9 records, are of no month" in page.text


def test_a_flow_loses_nothing(settings: Settings):
    with reading(settings.lake, TABLES) as connection:
        published = publication(connection, MONTH, None)
        found = received.received(connection, published, "Europe/Paris", ["subscriptions"])
        sums = subscriptions.totals(connection, published)
        flow = received.volume_flow(connection, published, found, {each.networks: each.octets for each in sums})
    octets = sum(up + down for each in used() for _, _, up, down in each.volumes)

    assert flow.unbalanced == []
    assert flow.into(received.COUNTED) == octets + 7
    assert flow.into(received.UNATTRIBUTED) == 7
    assert flow.into(received.DUPLICATE) == 500
    assert flow.into(received.OUT_OF_SCOPE) == 200
    assert flow.into("mobile") + flow.into("fixed") == octets
    records = received.record_flow(found)
    assert sum(records.links.values()) == found.total("records_received") == 1_490


@pytest.mark.parametrize("shift", [1_000_003, -1_000_003])
def test_what_files_hold_of_other_months_is_one_amount_in_or_out(settings: Settings, shift: int):
    with reading(settings.lake, TABLES) as connection:
        published = publication(connection, MONTH, None)
        found = received.received(connection, published, "Europe/Paris", [])
        moved = [
            row | {"volume_accepted_octets": row["volume_accepted_octets"] + (shift if row["source"] == "pgw_pipe" else 0)}
            for row in found.sources
        ]
        sums = subscriptions.totals(connection, published)
        octets = {each.networks: each.octets for each in sums}
        flow = received.volume_flow(connection, published, received.Received(moved, {}, {}), octets)

    assert flow.unbalanced == []
    assert flow.through(received.OTHER_MONTHS if shift > 0 else received.FROM_OTHER_MONTHS) == abs(shift)


def test_completeness_is_that_of_the_sequence_numbers(settings: Settings, page: Page):
    with reading(settings.lake, TABLES) as connection:
        found = received.completeness(connection, publication(connection, MONTH, None), "Europe/Paris")
    numbered = [type("Row", (), row) for row in table_of(settings, "sequences")]
    gaps = completeness.gaps(numbered)  # type: ignore[arg-type]

    assert found.of_node(("chf_ts32297", "PGW-1")) == (3_100, 0)
    assert found.of_node(("chf_ts32297", "PGW-2")) == (3_000, sum(gap.missing for gap in gaps)) == (3_000, 10)
    lines = {line[0]: line[2:] for line in page.tables["Completeness of numbered records by network element"][1:]}
    assert lines["PGW-2"] == ["3,000", "10", "99.7 %", "4 (10)", "20"]
    assert lines["PGW-1"] == ["3,100", "0", "100.0 %", "none", "none"]


def test_a_weak_day_of_a_source_is_told_beside_its_median(page: Page):
    (line,) = [line for line in page.tables["Volume of sources beside their median day"][1:] if line[0] == "pgw_pipe"]

    # Five octets on the 9th, a thousand on each other day.
    assert line == ["pgw_pipe", "9", "0.5 %", "9"]


def test_months_are_told_as_they_stand(settings: Settings, page: Page):
    lines = [line for line in page.tables["Months as they stand, by network"][1:] if line[0] == "2026-09"]
    september = [row for row in table_of(settings, "revisions") if row["publication_id"] == 101]

    assert [line[1:4] for line in lines] == [["2", "fixed", str(FIXED)], ["2", "mobile", str(MOBILE)]]
    assert len(september) == FIXED + MOBILE
    assert lines[1][4] == gigabytes(sum(row["data_volume_bytes"] for row in september if row["network"] == "mobile"))
    assert [line[1] for line in page.tables["Against the month before"][1:]] == ["+0.0 %", "+0.0 %"]


def test_a_restatement_is_told_with_its_causes_and_one_of_three_lines_without_amounts(page: Page):
    lines = {line[2]: line[3:6] for line in page.tables["Restatements by network and cause"][1:]}

    assert lines == {
        "late usage": ["120", "+31.415 GB", "+386.4 g"],
        "subscriptions": ["too few to tell", "withheld", "withheld"],
    }
    assert [line[:2] for line in page.tables["Every publication of these months"][1:]] == [
        ["2026-09", "1"],
        ["2026-09", "2"],
        ["2026-10", "1"],
    ]


def test_every_factor_source_and_hypothesis_in_force_is_cited(settings: Settings, page: Page):
    registry = load(settings.factors)
    applied = {(row["factor_id"], row["gco2e_per_unit"]) for row in table_of(settings, "estimated")}

    told = {(line[1], line[2]) for line in page.tables["Factors applied"][1:]}
    assert told == {(identity, measured(amount)) for identity, amount in applied}
    sources = {value.source for value in registry.sets["FR-RCP2-NAT-2022"].value}
    for key in sources:
        assert registry.citations[key].title in page.text
        assert registry.citations[key].address in page.text
    for hypothesis in hypotheses_of(settings.factors, MONTH):
        assert re.sub(r"\s+", " ", hypothesis.text) in page.text
        assert str(hypothesis.expires) in page.text


def test_an_expression_is_told_with_all_its_parts_and_their_sources(settings: Settings):
    registry = load(settings.factors)
    (factor_set,) = [each for each in registry.sets.values() if each.name == "EXAMPLE-ENERGY-GRID"]
    month = factor_set.valid_from
    rows_of_set = [
        {
            "usage_month": month,
            "revision": 1,
            "network": value.network,
            "component": value.component,
            "factor_set": factor_set.name,
        }
        | {"factor_id": f"{factor_set.identity(value)}#abc", "method_id": factor_set.method_id, "gco2e_per_unit": Decimal(1)}
        for value in factor_set.value
        if value.valid_from == month
    ]
    with in_memory() as connection:
        connection.register("estimated", pa.Table.from_pylist(rows_of_set))
        applied, cited = standing.factors_applied(connection, registry, {"usage_month": month, "revision": 1})

    parts = {part.source for each in applied for _, part in each.parts}
    assert parts
    assert set(cited) == parts | {each.value.source for each in applied}


def test_ratios_stand_beside_their_bands_and_what_others_published(page: Page):
    mobile = page.tables["Mobile: own ratios, their bands and what others published"]
    ratios = {line[0]: line[1:5] for line in mobile[1:]}

    assert ratios["A: grams of the volume for each GB"] == ["12.30", "gCO2e/GB", "10 to 55", "within"]
    assert ratios["B: grams of the subscription"][0] == "475.0"
    assert ratios["beside: France, NegaOctet, 2020 data"][3] == "own is 0.50 of it"  # 12.3 of 24.68


def test_times_are_those_of_the_last_run_before_the_publication(page: Page):
    assert page.column("Time of the stages that led to this publication", "Time") == {
        ("land",): "2.0 s", ("accept",): "1 min 01 s", ("meter",): "20.0 s", ("estimate",): "8.0 s", ("verify",): "15.0 s",
        ("publish",): "5.0 s", ("All",): "1 min 51 s",
    }  # fmt: skip


def test_files_that_come_after_the_publication_change_nothing_of_its_report(tmp_path: Path):
    settings = write_lake(tmp_path)
    before = report(settings, MONTH, None, None).read_text(encoding="utf-8")
    late = [row | {"batch": 2, "file_number": 9} for row in table_of(settings, "file_balances") if row["file_number"] == 1]
    write(settings, next(t for t in TABLES if t.name == "file_balances"), late)
    batch = {"batch": 2, "file_numbers": [9]}
    write(
        settings, next(t for t in TABLES if t.name == "batches"), [batch | {"state": state} for state in ("planned", "committed")]
    )

    assert report(settings, MONTH, None, None).read_text(encoding="utf-8") == before


# Small cells


@pytest.mark.parametrize(("mobile", "fixed"), [(60, 4), (4, 60)])
def test_a_network_of_four_lines_is_told_of_with_the_other_only(tmp_path: Path, mobile: int, fixed: int):
    settings = write_lake(tmp_path, mobile, fixed)
    page = Page(report(settings, MONTH, None, None).read_text(encoding="utf-8"))

    assert [line[:2] for line in page.tables["Published, by network"][1:]] == [["fixed and mobile", "64"]]
    assert {line[0] for line in page.tables["Octets from source to publication"][1:]} == {"all sources", received.COUNTED}
    assert not [caption for caption in page.tables if "own ratios" in caption]
    assert {line[1] for line in page.tables["What was measured, rule by rule"][1:]} == {"all"}
    small = [each for each in used(mobile, fixed) if each.network == ("fixed" if fixed < mobile else "mobile")]
    assert f"{sum(up + down for each in small for _, _, up, down in each.volumes):,}" not in page.text


def test_a_month_of_ten_lines_tells_nothing_of_what_they_used(tmp_path: Path):
    settings = write_lake(tmp_path, 6, 4)
    text = report(settings, MONTH, None, None).read_text(encoding="utf-8")
    page = Page(text)

    assert "There are fewer than 11 subscriptions: nothing is told of what they used." in page.text
    assert "Records by source, and the octets of their files" in page.tables
    assert "Published, by network" not in page.tables
    octets = sum(up + down for each in used(6, 4) for _, _, up, down in each.volumes)
    assert f"{octets:,}" not in page.text
    assert gigabytes(octets) not in page.text


COUNTS = st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), max_size=30)


@given(COUNTS, st.integers(1, 4))
def test_classes_that_are_shown_cover_all_and_hold_no_small_part(counts: list[list[int]], width: int):
    found = classes_together(counts, LEAST_SUBSCRIPTIONS, width)

    if found:
        assert [place for begin, end in found for place in range(begin, end)] == list(range(len(counts)))
    for begin, end in found:
        groups = [sum(group) for group in zip(*counts[begin:end], strict=True)]
        assert sum(groups) >= LEAST_SUBSCRIPTIONS
        assert not any(is_small(group) for group in groups)
    whole = [sum(group) for group in zip(*counts, strict=True)]
    may_be_shown = sum(whole) >= LEAST_SUBSCRIPTIONS and not any(is_small(group) for group in whole)
    assert bool(found) == may_be_shown


@given(st.dictionaries(st.sampled_from(["2g", "3g", "4g", "5g"]), st.sets(st.integers(0, 30)), max_size=4))
def test_kinds_that_are_shown_apart_or_as_one_are_never_small(users: dict[str, set[int]]):
    kinds = {(name,): some for name, some in users.items() if some}

    def together(some: Any) -> int:
        return len(set().union(*(kinds[kind] for kind in some)))

    joined = kinds_together({kind: len(some) for kind, some in kinds.items()}, together)

    assert not any(is_small(len(some)) for kind, some in kinds.items() if kind not in joined)
    assert not joined or together(joined) >= LEAST_SUBSCRIPTIONS or joined == set(kinds)


@given(st.integers(0, 30), st.integers(0, 30))
def test_networks_are_told_of_apart_only_where_none_is_small(fixed: int, mobile: int):
    shown = networks_shown({"fixed": fixed, "mobile": mobile})
    sizes = {"fixed": fixed, "mobile": mobile}

    for networks in shown:
        assert sum(sizes[network] for network in networks) >= LEAST_SUBSCRIPTIONS
    assert sum(sizes[n] for networks in shown for n in networks) == (
        fixed + mobile if fixed + mobile >= LEAST_SUBSCRIPTIONS else 0
    )


VOLUMES = st.lists(st.tuples(st.sampled_from(["2g", "4g", "5g"]), st.integers(0, 80 * 10**9)), min_size=0, max_size=150)


@profile(max_examples=40, deadline=None)
@given(VOLUMES)
def test_no_table_nor_two_laid_side_by_side_tell_of_fewer_than_eleven(volumes: list[tuple[str, int]]):
    """Whatever is shown is counted again in Python, and so is what lies between any two edges."""
    published = {"usage_month": MONTH, "publication_id": 1, "revision": 1}
    grams = [475 + Decimal(octets) * Decimal("12.3") / 10**9 for _, octets in volumes]
    shared = {"usage_month": MONTH, "publication_id": 1, "revision": 1, "network": "mobile"}
    lines = [
        shared | {"data_volume_bytes": octets, "footprint_gco2e": gram, "volume_gco2e": gram - 475, "is_estimated": False}
        for (_, octets), gram in zip(volumes, grams, strict=True)
    ]
    parts = [
        shared
        | {"subscription_key": str(n).encode(), "component": "volume", "access_technology": technology, "roaming_zone": "home"}
        | {"quantity": Decimal(octets).scaleb(-9), "gco2e": Decimal(0)}
        for n, (technology, octets) in enumerate(volumes)
    ]
    with in_memory() as connection:
        connection.register("revisions", _arrow(REVISIONS, lines))
        connection.register("estimated", _arrow(ESTIMATED, parts))
        sums = subscriptions.totals(connection, published)
        if len(volumes) < LEAST_SUBSCRIPTIONS:
            assert sums == []
            return
        by_volume, by_grams = subscriptions.distributions(connection, published, ("mobile",))
        technologies = subscriptions.technologies(connection, published, ("mobile",))

    assert sums[0].subscriptions == len(volumes)
    edges = []
    for shown, values in ((by_volume, [Decimal(octets).scaleb(-9) for _, octets in volumes]), (by_grams, grams)):
        counts, uppers = _counted_again([label for label, _ in shown.classes], values)
        assert [count for _, count in shown.classes] == counts
        assert all(count >= LEAST_SUBSCRIPTIONS for count in counts)
        edges += [upper if shown is by_grams else 475 + upper * Decimal("12.3") for upper in uppers]
    between = Counter(bisect_left(sorted(set(edges)), gram) for gram in grams)
    assert not any(is_small(count) for count in between.values())
    users = Counter(technology for technology, _ in volumes)
    for part in technologies:
        if part.name not in ("all",) and "together" not in part.name:
            assert users[part.name.split(",")[0]] >= LEAST_SUBSCRIPTIONS
    assert sum((part.gigabytes for part in technologies), Decimal(0)) in (sum(Decimal(o).scaleb(-9) for _, o in volumes), 0)


def _counted_again(labels: list[str], values: list[Decimal]) -> tuple[list[int], list[Decimal]]:
    """How many values each label speaks of, and the upper edges that labels name."""
    counts, uppers = [], []
    for label in labels:
        low, high = Decimal("-1"), Decimal("Infinity")
        numbers = [Decimal(found.replace(",", "")) for found in re.findall(r"[\d,]+", label)]
        if label == "none":
            high = Decimal(0)
        elif label.startswith("up to"):
            high = numbers[0]
        elif label.startswith("over"):
            low, high = numbers[0], numbers[1] if len(numbers) > 1 else high
        counts.append(sum(low < value <= high for value in values))
        uppers += [high] if high.is_finite() else []
    return counts, uppers


def _arrow(declared: Any, some: list[dict[str, Any]]) -> pa.Table:
    kept = [name for name in declared.names if not some or name in some[0]]
    schema = pa.schema([declared.arrow_schema.field(name).with_nullable(True) for name in kept])
    return pa.Table.from_pylist(some, schema=schema)


# Figures and numbers


def test_a_figure_is_drawn_alike_twice_and_names_no_colour_of_its_own():
    flow = Flow([Node("a", 0, "source"), Node("b", 1, "accepted"), Node("c", 1, "rejected")], {("a", "b"): 990, ("a", "c"): 10})
    told = Told("flow", "A flow", "990 to b & 10 to c <all>")
    first, second = (drawn(told, FULL, sankey(flow, str, 1_000)) for _ in range(2))

    assert first == second
    assert not re.search(r"#[0-9a-f]{6}\b", first)
    assert "990 to b &amp; 10 to c &lt;all&gt;" in first
    assert f'width="{PHONE}"' in first
    assert 'class="wide"' in first
    assert "http" not in first
    assert Page(str(first)).errors == []


def test_a_ribbon_is_as_wide_as_its_amount():
    flow = Flow([Node("a", 0, "source"), Node("b", 1, "accepted"), Node("c", 1, "rejected")], {("a", "b"): 750, ("a", "c"): 250})
    figure = sankey(flow, str, 1_000)(FULL)
    heights = defaultdict(list)
    for patch in figure.axes[0].patches:
        points = patch.get_path().vertices
        if len(points) == 9:  # a ribbon
            heights["ribbon"].append(round(points[4][1] - points[3][1], 6))

    assert heights["ribbon"] == [210 * 0.75, 210 * 0.25]


def test_a_flow_that_loses_something_is_found():
    nodes = [Node("a", 0, "source"), Node("b", 1, "accepted"), Node("c", 2, "fixed")]

    assert Flow(nodes, {("a", "b"): 10, ("b", "c"): 9}).unbalanced == ["b"]
    assert Flow(nodes, {("a", "b"): 10, ("b", "c"): 10}).unbalanced == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (gigabytes(182_285_149_000_000), "182,285.1 GB"),
        (gigabytes(0), "0.0 GB"),
        (gigabytes(700), "<0.01 GB"),
        (gigabytes(680_000_000), "0.68 GB"),
        (tonnes(Decimal("4084911.2")), "4.085 t"),
        (tonnes(Decimal(880_900)), "880.9 kg"),
        (percent(1, 3), "33.3 %"),
        (percent(1, 10**6), "<0.1 %"),
        (percent(10**6 - 1, 10**6), ">99.9 %"),
        (percent(1, 0), "-"),
        (percent(5, 5), "100.0 %"),
        (measured(Decimal("0.010000000000")), "0.01"),
        (measured(Decimal("4175.00000000000000")), "4,175"),
        (measured(Decimal("1.75000")), "1.75"),
        (measured(Decimal(1_000)), "1,000"),
        (measured(None), "-"),
        (seconds(8.04), "8.0 s"),
        (seconds(61), "1 min 01 s"),
        (seconds(3600), "60 min 00 s"),
    ],
)
def test_numbers_are_written_as_they_are_read(said: str, expected: str):
    assert said == expected
