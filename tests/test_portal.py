"""What the customer sees: the decree's items, nobody else's, in words that claim nothing; served by a role held to one row."""

import http.client
import json
import logging
import re
import socket
import stat
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from urllib.parse import urlencode

import psycopg
import pyarrow as pa
import pytest
import uvicorn
from psycopg.errors import CheckViolation, InsufficientPrivilege

from jobs import cli, postgres, serving
from jobs.portal import claims, page, rows, service, wording
from jobs.portal.equivalences import equivalences
from jobs.portal.tokens import NotAllowed, Tokens, tokens
from jobs.pseudonyms import FROM_THE_BEGINNING, Key, make_key, read_key
from jobs.run import PROJECT, CallError, Refused, Settings
from jobs.serving_schema import prepare
from schemas.readers import PORTAL, READERS
from schemas.tables import PUBLICATIONS, PUBLISHED

OCTOBER = date(2026, 10, 1)
METHOD = "# Comment\n\nPart **fixe** + part du volume <script>alert(1)</script> ![x](https://elsewhere.example/x.png)\n\n- un\n"
EMPTY = "TRUNCATE footprint.published, footprint.publications, footprint.revisions, footprint.feedback"


def month(back: int, end: date = OCTOBER) -> date:
    number = end.year * 12 + end.month - 1 - back
    return date(number // 12, number % 12 + 1, 1)


def row(key: str, usage_month: date = OCTOBER, **changes: object) -> dict[str, object]:
    """A mobile line with 14.3 GB under the two-part method: 475 + 14.3 x 12.3 = 650.89 g."""
    found: dict[str, object] = {
        "subscription_key": key,
        "usage_month": usage_month,
        "network": "mobile",
        "brand": "",
        "data_volume_bytes": 14_300_000_000,
        "data_volume_gb_displayed": 14,
        "is_estimated": False,
        "volume_gco2e": Decimal("175.89"),
        "subscription_gco2e": Decimal(475),
        "footprint_gco2e_low": None,
        "footprint_gco2e_high": None,
        "factor_set": "ademe",
        "is_national_default": True,
        "method_id": "m1",
        "revision": 1,
        "publication_id": 1,
        **changes,
    }
    found["footprint_gco2e"] = found["volume_gco2e"] + found["subscription_gco2e"]
    found["footprint_gco2e_displayed"] = int(found["footprint_gco2e"].quantize(Decimal(1), "ROUND_HALF_UP"))
    return found


def account(*published: dict[str, object], shown: date = OCTOBER, method: str = METHOD) -> page.Account:
    return page.Account({found["usage_month"]: found for found in published}, shown, method)


def written(*published: dict[str, object], language: str = "fr", **changes: object) -> str:
    return page.page(account(*published or (row("a" * 32),), **changes), language, equivalences(PROJECT / "factors"))


class Words(HTMLParser):
    """The words of a page as they are read out, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._inside and data.strip():
            self.said.append(" ".join(data.split(" ")).strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.said))


# The page


def test_the_items_of_the_decree_are_shown_as_they_were_published():
    text = Words(written(row("a" * 32, data_volume_gb_displayed=1414, is_estimated=True))).text

    assert "Votre consommation\u00a0: octobre 2026" in text
    assert "Type d'abonnement internet mobile" in text
    assert "Volume de données consommées 1\u202f414\u00a0Go (données estimées)" in text
    assert "Équivalent en émissions de gaz à effet de serre 651\u00a0g\u00a0éqCO2" in text  # 475 + 14.3 x 12.3
    assert "Synthèse des modalités de calcul Comment Part fixe + part du volume" in text
    assert "Valeur nationale par défaut" in text


def test_what_was_measured_is_not_called_estimated_and_a_first_revision_not_corrected():
    text = Words(written()).text

    assert "(données estimées)" not in text
    assert "corrigé" not in text
    assert "révision 2" in Words(written(row("a" * 32, revision=2))).text


def test_the_two_parts_are_told_apart_and_a_part_that_the_method_lacks_is_said():
    text = Words(written()).text
    assert "Part de l'abonnement 475\u00a0g\u00a0éqCO2" in text
    assert "Part du volume 176\u00a0g\u00a0éqCO2" in text

    flat = Words(written(row("a" * 32, network="fixed", volume_gco2e=Decimal(0), subscription_gco2e=Decimal(4100)))).text
    assert "n'attribue rien au volume" in flat
    assert "4\u202f100\u00a0g\u00a0éqCO2" in flat


def test_thirteen_months_are_drawn_and_the_table_says_the_same():
    history = [row("a" * 32, month(back), subscription_gco2e=Decimal(100 * back), volume_gco2e=Decimal(50)) for back in range(20)]
    del history[3]
    found = Words(written(*history))

    svg = found.named("svg")[0]
    named = {attributes["id"] for tag, attributes in found.elements if tag in ("title", "desc") and "id" in attributes}
    assert svg["role"] == "img"
    assert set(svg["aria-labelledby"].split()) == named
    assert len([r for r in found.named("rect") if r["class"] == "volume"]) == 12  # one month is not published
    assert len(found.named("tbody")) == 1
    assert len([h for h in found.named("th") if h["scope"] == "row"]) == 13
    for back in (0, 1, 2, *range(4, 13)):
        grams = f"{100 * back + 50:,}".replace(",", "\u202f")
        assert f"{grams}\u00a0g" in found.said  # in the chart
        assert grams in found.said  # in the table
    assert found.text.count("non publié") == 2
    assert "octobre 2025 à octobre 2026" in found.text
    assert "Le plus grand mois affiché est octobre 2025, avec 1\u202f250\u00a0g" in found.text


def test_a_month_older_than_the_latest_thirteen_ends_its_own_chart():
    history = [row("a" * 32, month(back)) for back in range(20)]

    assert account(*history, shown=month(12)).history[-1][0] == OCTOBER
    assert account(*history, shown=month(13)).history[-1][0] == month(13)


def test_a_subscription_without_any_emission_has_a_page_without_bars_or_equivalences():
    found = Words(written(row("a" * 32, volume_gco2e=Decimal(0), subscription_gco2e=Decimal(0), data_volume_gb_displayed=0)))

    assert found.named("rect") == []
    assert "TGV" not in found.text


def test_equivalences_stand_apart_with_their_source_and_only_those_read_there_are_used():
    text = Words(written()).text
    legal, apart = text.split("Pour situer ce chiffre")

    assert "TGV" not in legal
    assert "222\u00a0km en TGV" in apart  # 650.89 / 2.93
    assert "0,8 repas végétarien" in apart  # 650.89 / 850
    assert "ADEME, Impact CO2, version du 01/07/2026 (licence MIT). Valeurs lues à la source." in apart
    assert all(value.is_verified for value in equivalences(PROJECT / "factors").shown)


def test_a_folder_of_factors_without_equivalences_gives_a_page_without_them(tmp_path):
    text = Words(page.page(account(row("a" * 32)), "fr", equivalences(tmp_path))).text

    assert "Pour situer" not in text
    assert "smartphone" not in text
    assert "Résiliez" in text


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ('gco2e = "2.93"', 'gco2e = "about 3"', "about 3"),
        ('mark = "V"', 'mark = "sure"', "sure"),
        ('id = "tgv"', 'id = "rocket"', "rocket is to be shown, and has no words"),
    ],
)
def test_equivalences_that_cannot_be_cited_or_worded_are_refused(tmp_path, was, becomes, says):
    text = (PROJECT / "factors" / "equivalences.toml").read_text(encoding="utf-8")
    (tmp_path / "equivalences.toml").write_text(text.replace(was, becomes, 1), encoding="utf-8")
    with pytest.raises(CallError, match=says):
        equivalences(tmp_path)


def test_no_action_promises_grams_in_proportion():
    text = Words(written()).text

    assert "Il ne touche que la part du volume (176\u00a0g ce mois-ci)" in text
    assert "n'émettent pas moins dans la même proportion" in text


def test_english_is_written_the_english_way():
    text = Words(written(row("a" * 32, data_volume_gb_displayed=1414), language="en")).text

    assert "1,414\u00a0GB" in text
    assert "651\u00a0gCO2e" in text
    assert "0.8 vegetarian meal" in text


def test_a_method_text_cannot_bring_a_script_a_picture_or_a_link():
    found = Words(written())

    assert not found.named("script")
    assert not found.named("img")
    assert "alert(1)" in found.text


def test_a_page_names_no_other_host_and_has_no_attribute_that_loads():
    html = written()

    assert not re.search(r"(src|href|action|url)\s*[=(]\s*[\"']?(https?:)?//", html)
    assert "https://" not in html
    assert not re.search(r'\sstyle="', html)  # the policy lets no style attribute through


def test_both_languages_have_the_same_texts_with_the_same_places():
    def shape(texts: object) -> object:
        if isinstance(texts, dict):
            return {name: shape(value) for name, value in texts.items()}
        if isinstance(texts, list):
            return [shape(value) for value in texts]
        return sorted(re.findall(r"\{\w+\}", str(texts)))

    assert shape(wording.said("fr")) == shape(wording.said("en"))


def test_french_spaces_are_no_break_before_double_signs():
    for line in (PROJECT / "jobs/portal/texts/fr.toml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            assert not re.search(r" [;:!?»%]", line), line


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_bars_stand_out_from_their_ground(scheme):
    """WCAG 2.2, 1.4.3 and 1.4.11: 4.5 to 1 for words, 3 to 1 for what a picture is read by."""
    light, dark = re.findall(r":root \{(.*?)\}", page.style(), re.DOTALL)
    colours = dict(re.findall(r"--(\w+): #(\w{6})", light if scheme == "light" else dark))

    def luminance(name: str) -> float:
        parts = [int(colours[name][at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(name: str, ground: str) -> float:
        lighter, darker = sorted((luminance(name), luminance(ground)), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)

    for ground in ("ground", "raised"):
        assert min(contrast(name, ground) for name in ("text", "soft", "link")) >= 4.5
    assert min(contrast(name, "ground") for name in ("subscription", "volume", "line")) >= 3


# Claims


@pytest.mark.parametrize(
    "claim",
    [
        "Un internet neutre en carbone.",
        "Un réseau NEUTRE\u00a0EN CO2",
        "zéro\u2011carbone",
        "Zero carbone",
        "zéro émission",
        "une empreinte carbone nulle",
        "climatiquement neutre",
        "la neutralité carbone de votre box",
        "100\u202f% compensé",
        "intégralement compensées",
        "Compensé à 100 %",
        "neutre pour le climat",
        "sans impact sur le climat",
        "a carbon neutral network",
        "carbon-neutrality",
        "Climate positive data",
        "net-zero streaming",
        "zero emission",
        "100% offset",
        "fully compensated",
        "<b>neutre</b> en <em>carbone</em>",
        "**neutre** en carbone",
    ],
)
def test_a_claim_of_neutrality_is_found_however_it_is_written(claim):
    assert claims.claims(f"Votre forfait : {claim} !")


@pytest.mark.parametrize(
    "text",
    [
        "Effet : aucun sur ce chiffre, qui ne compte que les réseaux.",
        "équivalent en émissions de gaz à effet de serre",
        "The networks do not emit less in the same proportion.",
        "Aucun chiffre n'est publié pour cet abonnement.",
        "une part nulle ce mois-ci : 0 g éqCO2",
        "Votre débit est de 100 % ce mois-ci.",
    ],
)
def test_a_plain_statement_is_no_claim(text):
    assert claims.claims(text) == []


def test_no_text_of_the_project_claims_neutrality():
    assert len(claims.texts()) > 8
    assert claims.refusals(claims.texts()) == []


def test_a_page_with_a_claim_is_refused_even_if_the_operators_method_text_makes_it():
    with pytest.raises(Refused, match="neutre en carbone"):
        written(method="Grâce à nos achats, ce réseau est neutre en carbone.")


# Tokens


@pytest.fixture
def issued() -> Tokens:
    return Tokens(Key("portal", b"k" * 32), minutes=15)


def test_a_token_names_the_subscription_it_was_issued_for(issued):
    assert issued.subscription_keys(issued.of_subscription(["a" * 32, "b" * 32])) == ["a" * 32, "b" * 32]


def test_a_changed_forged_or_misused_token_shows_nothing(issued):
    token = issued.of_subscription(["a" * 32])
    forged = Tokens(Key("portal", b"x" * 32), minutes=15).of_subscription(["a" * 32])
    for wrong in ("", "x", token[:-2], "A" + token[1:], forged, issued.of_question(OCTOBER), issued.of_subscription(["*"])):
        with pytest.raises(NotAllowed):
            issued.subscription_keys(wrong)
    with pytest.raises(NotAllowed):
        issued.answerable(token)


def test_a_token_expires(issued, monkeypatch):
    token = issued.of_subscription(["a" * 32])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 15 * 60 - 5)
    assert issued.subscription_keys(token)
    monkeypatch.setattr(time, "time", lambda: now + 15 * 60 + 5)
    with pytest.raises(NotAllowed, match="Expired"):
        issued.subscription_keys(token)


def test_the_signing_key_is_made_for_its_owner_only_and_a_named_one_must_be_there(tmp_path):
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)})
    tokens(settings)
    assert stat.S_IMODE((tmp_path / "keys" / "portal.key").stat().st_mode) == 0o600

    (tmp_path / "keys" / "portal.key").chmod(0o644)
    with pytest.raises(CallError, match="can be read by others"):
        tokens(settings)
    elsewhere = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), "FOOTPRINT_PORTAL_KEY": str(tmp_path / "p.key")})
    with pytest.raises(CallError, match="FOOTPRINT_PORTAL_KEY"):
        tokens(elsewhere)


# PostgreSQL and the service


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path_factory.mktemp("portal"))})
    make_key(settings.keys, "serving", FROM_THE_BEGINNING)
    serving.start(settings)
    yield settings
    assert postgres.stop_embedded(settings)


def key_of(settings: Settings, subscription: str) -> str:
    return read_key(settings.keys, "serving.key").pseudonym("subscription", subscription).hex()


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection]:
    """The loader's, with thirteen months of ana and one of ben."""
    with postgres.connect(settings) as connection:
        prepare(connection)
        ana, ben = key_of(settings, "ana"), key_of(settings, "ben")
        for back in range(12, -1, -1):
            published = [row(ana, month(back), publication_id=13 - back, is_estimated=back == 2, volume_gco2e=Decimal(50 * back))]
            published += [row(ben, publication_id=13, network="fixed", subscription_gco2e=Decimal(4175))] if back == 0 else []
            load(connection, published)
        yield connection
        connection.execute(EMPTY)


def load(connection: psycopg.Connection, published: list[dict[str, object]]) -> None:
    ledger = {
        **dict.fromkeys(PUBLICATIONS.names, "x"),
        **{name: published[0][name] for name in ("publication_id", "usage_month", "revision")},
        "supersedes_publication_id": None,
        "batch_cutoff": 1,
        "verdict_id": 1,
        "published_at": datetime(2026, 11, 5, tzinfo=UTC),
        "subscriptions": len(published),
        "data_volume_bytes": sum(found["data_volume_bytes"] for found in published),
        "footprint_gco2e": sum(found["footprint_gco2e"] for found in published),
    }
    texts = {("m1", language): path_text(language) for language in ("fr", "en")}
    batch = pa.RecordBatch.from_pylist(published, PUBLISHED.arrow_schema)
    assert serving.load_publication(connection, ledger, [batch], serving.Beside(method_texts=texts))


def path_text(language: str) -> str:
    return (PROJECT / "factors" / "methods" / f"fr-rcp-fai-v2.{language}.md").read_text(encoding="utf-8")


@pytest.fixture
def as_portal(settings: Settings, connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url(settings, PORTAL), autocommit=True) as portal:
        yield portal


def keys_seen(connection: psycopg.Connection) -> set[str]:
    return {found[0] for found in connection.execute("SELECT subscription_key FROM footprint.published").fetchall()}


def test_the_portals_role_reaches_the_row_whose_key_it_names_and_no_other(settings, as_portal):
    ana, ben = key_of(settings, "ana"), key_of(settings, "ben")
    assert keys_seen(as_portal) == set()

    as_portal.execute("SELECT set_config('footprint.subscription_key', %s, false)", (ana,))
    assert keys_seen(as_portal) == {ana}
    others = [
        ("SELECT count(*) FROM footprint.published WHERE subscription_key = %s", (ben,)),
        ("SELECT count(*) FROM footprint.published WHERE subscription_key <> %s OR true", (ben,)),
        (
            "SELECT count(*) FROM footprint.published AS one JOIN footprint.published AS other ON other.subscription_key = %s",
            (ben,),
        ),
    ]
    assert [as_portal.execute(*statement).fetchone()[0] for statement in others] == [0, 13, 0]
    for guess in ("%", "", "' OR true --", ana.upper()):
        as_portal.execute("SELECT set_config('footprint.subscription_key', %s, false)", (guess,))
        assert keys_seen(as_portal) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE postgres",
        "SET ROLE footprint_billing",
        "SET row_security = off; SELECT * FROM footprint.published",
        "ALTER TABLE footprint.published DISABLE ROW LEVEL SECURITY",
        "DROP POLICY footprint_portal_reads ON footprint.published",
        "CREATE POLICY more ON footprint.published USING (true)",
        "ALTER ROLE footprint_portal BYPASSRLS",
        "SELECT * FROM footprint.published_history",
        "SELECT * FROM footprint.revisions",
        "SELECT * FROM footprint.feedback",
        "UPDATE footprint.feedback SET answer = 'yes'",
        "DELETE FROM footprint.feedback",
        "INSERT INTO footprint.feedback VALUES ('2026-10-01', 'yes', NULL, 'fr', '2026-11-06') RETURNING *",
    ],
)
def test_the_portals_role_cannot_get_round_it(as_portal, statement):
    with pytest.raises(InsufficientPrivilege):
        as_portal.execute(statement.encode())


def test_billing_and_auditors_still_read_every_row(settings, connection):
    for role in set(READERS) - {PORTAL}:
        with psycopg.connect(postgres.url(settings, role), autocommit=True) as reader:
            assert keys_seen(reader) == {key_of(settings, "ana"), key_of(settings, "ben")}


@pytest.mark.parametrize("wrong", [("maybe", None, "fr"), ("yes", "my phone is 06 12", "fr"), ("yes", None, "xx")])
def test_feedback_takes_no_free_text(as_portal, wrong):
    answer, reason, language = wrong
    with pytest.raises(CheckViolation):
        as_portal.execute(rows._ANSWER, (OCTOBER, answer, reason, language, OCTOBER))


def test_feedback_has_no_column_for_who_or_when_exactly(connection):
    found = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'feedback' ORDER BY ordinal_position"
    ).fetchall()
    assert found == [("usage_month", "date"), ("answer", "text"), ("reason", "text"), ("language", "text"), ("day", "date")]


def test_the_service_refuses_a_user_who_may_read_everybody(settings, connection):
    for role in ("postgres", "footprint_billing"):
        as_another = Settings.from_environment(
            {"FOOTPRINT_VAR": str(settings.var), "FOOTPRINT_SERVING_URL": postgres.url(settings, role)}
        )
        with pytest.raises(CallError, match="may read every subscription"):
            rows.connect(as_another)


def test_a_user_of_ones_own_that_is_granted_the_role_serves_too(settings, connection):
    connection.execute("CREATE ROLE web LOGIN IN ROLE footprint_portal")
    try:
        place = Settings.from_environment(
            {"FOOTPRINT_VAR": str(settings.var), "FOOTPRINT_SERVING_URL": postgres.url(settings, "web")}
        )
        with closing(rows.connect(place)) as web:
            assert rows.account(web, [key_of(settings, "ana")], None, "en").month == OCTOBER
            assert rows.account(web, ["0" * 32], None, "en") is None
    finally:
        connection.execute("DROP ROLE web")


def test_months_published_under_an_earlier_key_are_shown_too(settings, connection):
    after, before = "c" * 32, key_of(settings, "ana")
    load(connection, [row(after, date(2026, 11, 1), publication_id=14)])
    with closing(rows.connect(settings)) as portal:
        found = rows.account(portal, [before, after], None, "fr")
        assert keys_seen(portal) == set()  # no key is named once the rows are read

    assert found.month == date(2026, 11, 1)
    assert {published["subscription_key"] for published in found.rows.values()} == {before, after}


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[int]:
    """The port of the service, run as ``make portal`` runs it."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(service.configuration(service.application(settings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def asked(port: int, path: str, form: dict[str, str] | None = None, method: str | None = None) -> tuple[int, dict[str, str], str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        body = urlencode(form) if form is not None else None
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        client.request(method or ("GET" if form is None else "POST"), path, body, headers)
        answer = client.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


def token_of(settings: Settings, subscription: str) -> str:
    return tokens(settings).of_subscription([key_of(settings, subscription)])


def test_a_token_shows_its_own_subscription_and_no_other(settings, connection, served):
    status, _, html = asked(served, f"/?token={token_of(settings, 'ana')}")
    assert (status, "<dd>internet mobile</dd>" in html, "<dd>internet fixe</dd>" in html) == (200, True, False)

    status, _, html = asked(served, f"/?token={token_of(settings, 'ben')}&month=2026-10&lang=en")
    assert (status, "<dd>fixed internet</dd>" in html, "<dd>mobile internet</dd>" in html) == (200, True, False)
    assert key_of(settings, "ana") not in html


def test_without_a_valid_token_nothing_is_shown(settings, connection, served, monkeypatch):
    now = time.time()
    with monkeypatch.context() as earlier:
        earlier.setattr(time, "time", lambda: now - 16 * 60)
        expired = token_of(settings, "ana")
    for token in ("", "x", expired, key_of(settings, "ana")):
        status, headers, html = asked(served, f"/?token={token}")
        assert status == 401
        assert "espace client" in html
        assert "éqCO2" not in html
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("query", "status"), [("month=2020-01", 404), ("month=octobre", 400), ("month=2026-9", 400)])
def test_a_month_that_is_not_there_is_said(settings, connection, served, query, status):
    assert asked(served, f"/?token={token_of(settings, 'ana')}&{query}")[0] == status


def test_a_subscription_that_was_never_published_is_said(settings, connection, served):
    assert asked(served, f"/?token={token_of(settings, 'nobody')}")[0] == 404


def test_every_answer_is_hardened_and_sets_no_cookie(settings, connection, served):
    for path in ("/", f"/?token={token_of(settings, 'ana')}", "/health", "/nowhere"):
        _, headers, html = asked(served, path)
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert not {"set-cookie", "server"} & headers.keys()
        assert "<script" not in html


def test_the_service_tells_its_health(connection, served):
    status, _, text = asked(served, "/health")
    assert (status, json.loads(text)) == (200, {"status": "ok"})


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("PUT", "/"), ("DELETE", "/feedback"), ("GET", "/feedback")])
def test_other_methods_are_not_served(served, method, path):
    assert asked(served, path, method=method)[0] == 405


def form_of(html: str, **answers: str) -> dict[str, str]:
    hidden = {field["name"]: field["value"] for field in Words(html).named("input") if field["type"] == "hidden"}
    return {**hidden, **answers}


def test_an_answer_is_kept_once_and_names_nobody(settings, connection, served):
    _, _, html = asked(served, f"/?token={token_of(settings, 'ana')}&month=2026-09")
    form = form_of(html, answer="no", reason="figure_unclear")
    assert token_of(settings, "ana").split(".")[0] not in json.dumps(form)

    assert "Merci, votre réponse est enregistrée" in asked(served, "/feedback", form)[2]
    assert "déjà été reçue" in asked(served, "/feedback", form)[2]
    today = datetime.now(settings.legal_timezone).date()
    kept = connection.execute("SELECT usage_month, answer, reason, language, day FROM footprint.feedback").fetchall()
    assert kept == [(date(2026, 9, 1), "no", "figure_unclear", "fr", today)]


def test_an_answer_needs_no_reason(settings, connection, served):
    _, _, html = asked(served, f"/?token={token_of(settings, 'ana')}&lang=en")
    assert asked(served, "/feedback", form_of(html, answer="yes", reason=""))[0] == 200
    assert connection.execute("SELECT answer, reason, language FROM footprint.feedback").fetchall() == [("yes", None, "en")]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"token": ""}, 401),
        ({"token": "forged.by.another"}, 401),
        ({"answer": "maybe"}, 400),
        ({"reason": "free text"}, 400),
        ({"lang": "xx"}, 400),
        ({"reason": "x" * 5000}, 413),
    ],
)
def test_an_answer_from_elsewhere_or_of_another_form_is_refused(settings, connection, served, changes, status):
    _, _, html = asked(served, f"/?token={token_of(settings, 'ana')}")
    assert asked(served, "/feedback", {**form_of(html, answer="yes"), **changes})[0] == status
    assert asked(served, "/feedback", {**form_of(html, answer="yes"), "token": token_of(settings, "ana")})[0] == 401
    assert connection.execute("SELECT count(*) FROM footprint.feedback").fetchone() == (0,)


def test_a_failure_is_said_without_a_trace_and_logged_without_the_request(settings, connection, served, caplog):
    token = token_of(settings, "ana")
    with connection.transaction():
        connection.execute("REVOKE SELECT ON footprint.method_texts FROM footprint_portal")
    try:
        with caplog.at_level(logging.INFO):
            status, headers, html = asked(served, f"/?token={token}")
    finally:
        connection.execute("GRANT SELECT ON footprint.method_texts TO footprint_portal")

    assert status == 503
    assert "Traceback" not in html
    assert headers["cache-control"] == "no-store"
    assert "permission denied" in caplog.text
    assert token not in caplog.text
    assert key_of(settings, "ana") not in caplog.text


# The commands


def test_the_page_as_a_file_is_the_services_without_its_form(settings, connection, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    out = tmp_path / "ana.html"
    assert cli.main(["customer-page", "--subscription", "ana", "--out", str(out)]) == 0

    found = Words(out.read_text(encoding="utf-8"))
    assert "octobre 2026" in found.text
    assert not found.named("form")
    assert not found.named("a")
    assert cli.main(["customer-page", "--subscription", "nobody", "--out", str(out)]) == 1
    assert cli.main(["customer-page", "--subscription", "ana", "--month", "2020-01", "--out", str(out)]) == 1
    assert "nothing is published for this subscription in 2020-01" in capsys.readouterr().err


def test_an_issued_token_opens_the_page(settings, connection, served, monkeypatch, capsys):
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    assert cli.main(["portal-token", "--subscription", "ana"]) == 0

    assert asked(served, f"/?token={capsys.readouterr().out.strip()}")[0] == 200


def test_a_port_that_is_taken_is_said(settings, connection, served):
    with pytest.raises(CallError, match="choose another --port"):
        service.serve(settings, "127.0.0.1", served, lambda line: None)


def test_what_the_portal_needs_is_declared():
    extra = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["portal"]
    assert {re.match(r"\w+", name)[0] for name in extra} == {"starlette", "uvicorn", "itsdangerous"}
