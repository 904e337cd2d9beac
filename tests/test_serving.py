"""The PostgreSQL copy: a month is replaced whole or not at all, a role reads what it may, the server outlives its starter."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from psycopg.errors import InsufficientPrivilege

from jobs import embedded, postgres, serving
from jobs.run import PROJECT, CallError, Refused, Settings
from jobs.serving_schema import TABLES, VIEWS, prepare
from schemas.readers import READERS
from schemas.tables import CORRECTIONS, PUBLICATIONS, PUBLISHED, RESTATEMENTS, VERDICTS

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
ANA, BEN, EVE = "a" * 32, "b" * 32, "e" * 32


def settings_in(var: Path, **more: str) -> Settings:
    return Settings.from_environment({"FOOTPRINT_VAR": str(var), **more})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = settings_in(tmp_path_factory.mktemp("serving"))
    serving.start(settings)
    yield settings
    assert postgres.stop_embedded(settings)


TRUNCATED = ("published", "publications", "revisions", "verdicts", "restatements", "corrections")


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection]:
    with postgres.connect(settings) as connection:
        prepare(connection)
        yield connection
        connection.execute(f"TRUNCATE {', '.join(f'footprint.{name}' for name in TRUNCATED)}".encode())
        for (part,) in connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhrelid "
            "WHERE relkind = 'r' AND relnamespace = 'footprint'::regnamespace"
        ).fetchall():
            connection.execute(f"DROP TABLE {part}".encode())


def rows(publication_id: int, grams: dict[str, str], month: date = OCTOBER, revision: int = 1, brand: str = "") -> pa.RecordBatch:
    def row(key: str, footprint: str) -> dict[str, object]:
        return {
            "subscription_key": key,
            "usage_month": month,
            "network": "mobile",
            "brand": brand,
            "data_volume_bytes": 2_000_000_000,
            "data_volume_gb_displayed": 2,
            "is_estimated": False,
            "volume_gco2e": Decimal(footprint),
            "subscription_gco2e": Decimal(0),
            "footprint_gco2e": Decimal(footprint),
            "footprint_gco2e_low": None,
            "footprint_gco2e_high": None,
            "footprint_gco2e_displayed": 0,
            "factor_set": "ademe",
            "is_national_default": True,
            "method_id": "m1",
            "revision": revision,
            "publication_id": publication_id,
        }

    return pa.RecordBatch.from_pylist([row(*item) for item in grams.items()], PUBLISHED.arrow_schema)


def ledger_row(batch: pa.RecordBatch, **changes: object) -> dict[str, object]:
    table = batch.to_pylist()
    return {
        "publication_id": table[0]["publication_id"],
        "usage_month": table[0]["usage_month"],
        "revision": table[0]["revision"],
        "supersedes_publication_id": None,
        "reason": "monthly run",
        "approver": None,
        "batch_cutoff": 1,
        "factors_id": "f",
        "factor_sets": "ademe",
        "code_version": "0",
        "verdict_id": 1,
        "subscriptions": len(table),
        "data_volume_bytes": sum(row["data_volume_bytes"] for row in table),
        "footprint_gco2e": sum(row["footprint_gco2e"] for row in table),
        "lock_hash": None,
        "figures_hash": "x",
        "rows_hash": "y",
        "published_at": datetime(2026, 11, 5, tzinfo=UTC),
        **changes,
    }


def load(connection: psycopg.Connection, batch: pa.RecordBatch, **changes: object) -> bool:
    return serving.load_publication(connection, ledger_row(batch, **changes), [batch])


def served(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    statement = "SELECT subscription_key, usage_month, footprint_gco2e, publication_id FROM footprint.published ORDER BY 2, 1"
    return connection.execute(statement).fetchall()


def test_a_publication_replaces_its_month_and_no_other(connection):
    load(connection, rows(1, {ANA: "100", BEN: "50"}))
    load(connection, rows(2, {ANA: "7"}, month=NOVEMBER))
    load(connection, rows(3, {ANA: "90", EVE: "10"}, revision=2), supersedes_publication_id=1)

    assert served(connection) == [(ANA, OCTOBER, 90, 3), (EVE, OCTOBER, 10, 3), (ANA, NOVEMBER, 7, 2)]
    assert serving.publication_ids(connection) == {OCTOBER: 3, NOVEMBER: 2}


def test_a_month_and_a_publication_have_parts_of_their_own_that_only_the_whole_gives_access_to(settings, connection):
    load(connection, rows(1, {ANA: "100"}))
    load(connection, rows(2, {ANA: "90"}, revision=2), supersedes_publication_id=1)
    load(connection, rows(3, {ANA: "7"}, month=NOVEMBER))

    def parts(table: str) -> list[str]:
        statement = f"SELECT DISTINCT tableoid::regclass::text FROM footprint.{table} ORDER BY 1"
        return [name for (name,) in connection.execute(statement.encode()).fetchall()]

    assert parts("published") == ["footprint.published_2026_10_01", "footprint.published_2026_11_01"]
    assert parts("revisions") == ["footprint.revisions_1", "footprint.revisions_2", "footprint.revisions_3"]
    for role in READERS:
        with psycopg.connect(postgres.url(settings, role), autocommit=True) as reader:
            for part in parts("published") + parts("revisions"):
                with pytest.raises(InsufficientPrivilege):
                    reader.execute(f"SELECT * FROM {part}".encode())


def test_a_restatement_with_a_key_twice_is_refused(connection):
    load(connection, rows(1, {ANA: "100"}))
    twice = rows(2, {ANA: "1", BEN: "2"}, revision=2)
    twice = twice.set_column(0, PUBLISHED.arrow_schema.field(0), pa.array([ANA, ANA]))
    with pytest.raises(Refused, match="could not create unique index"):
        load(connection, twice)
    assert served(connection) == [(ANA, OCTOBER, 100, 1)]


def test_a_part_is_the_tables_owners_whoever_loads_it(settings, connection):
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE ROLE loader; GRANT ALL ON SCHEMA footprint TO loader")
        for table in ("published", "revisions"):
            connection.execute(f"ALTER TABLE footprint.{table} OWNER TO loader".encode())
        load(connection, rows(1, {ANA: "100"}))
        owners = "SELECT relname::text, pg_get_userbyid(relowner)::text FROM pg_class WHERE relispartition AND relkind = 'r'"
        assert {(name, owner) for name, owner in connection.execute(owners).fetchall()} == {
            ("published_2026_10_01", "loader"),
            ("revisions_1", "loader"),
        }


def test_a_part_that_was_taken_out_is_not_taken_for_one(connection):
    load(connection, rows(1, {ANA: "100"}))
    connection.execute("ALTER TABLE footprint.published DETACH PARTITION footprint.published_2026_10_01")
    with pytest.raises(CallError, match="already exists"):
        load(connection, rows(2, {ANA: "90"}, revision=2), supersedes_publication_id=1)
    connection.execute("DROP TABLE footprint.published_2026_10_01")


def test_a_month_is_published_and_restated_while_somebody_reads(settings, connection):
    with psycopg.connect(postgres.url(settings, "footprint_auditor")) as reader:
        count = "SELECT count(*) FROM footprint.published JOIN footprint.revisions USING (publication_id)"
        assert reader.execute(count).fetchone() == (0,), "a transaction is open, and holds its locks"
        connection.execute("SET lock_timeout = '2s'")
        load(connection, rows(1, {ANA: "100"}))
        load(connection, rows(2, {ANA: "90"}, revision=2), supersedes_publication_id=1)

        assert served(connection) == [(ANA, OCTOBER, 90, 2)]
        assert reader.execute(count).fetchone() == (1,)


def test_every_value_arrives_as_it_was(connection):
    batch = rows(1, {ANA: "0.000000000001", BEN: "123456789012.123456789012"}, brand='a, "b"\n\\.\n é')
    load(connection, batch)

    assert [serving.published_row(connection, key, OCTOBER) for key in (ANA, BEN)] == batch.to_pylist()
    assert serving.published_row(connection, EVE, OCTOBER) is None


def test_an_empty_text_and_a_null_stay_apart(connection):
    load(connection, rows(1, {ANA: "1"}, brand=""))

    row = serving.published_row(connection, ANA, OCTOBER)
    assert (row["brand"], row["footprint_gco2e_low"]) == ("", None)


def test_other_encodings_of_the_declared_types_are_taken(connection):
    batch = rows(1, {ANA: "1"})
    as_delta_reads_it = batch.set_column(0, "subscription_key", batch["subscription_key"].cast(pa.string_view()))
    serving.load_publication(connection, ledger_row(batch), [as_delta_reads_it])

    assert served(connection) == [(ANA, OCTOBER, 1, 1)]


def test_loading_again_changes_nothing_and_reads_no_rows(connection):
    batch = rows(1, {ANA: "100"})
    assert load(connection, batch)

    def unread() -> Iterator[pa.RecordBatch]:
        pytest.fail("rows were read")
        yield batch

    assert not serving.load_publication(connection, ledger_row(batch), unread())
    assert served(connection) == [(ANA, OCTOBER, 100, 1)]


def test_a_publication_older_than_the_one_served_becomes_history_only(connection):
    load(connection, rows(3, {ANA: "90"}, revision=2), supersedes_publication_id=1)
    assert serving.missing(connection, [1, 3]) == [1]
    load(connection, rows(1, {ANA: "100"}))

    assert served(connection) == [(ANA, OCTOBER, 90, 3)]
    history = connection.execute(
        "SELECT publication_id, footprint_gco2e, reason, is_current FROM footprint.published_history ORDER BY 1"
    ).fetchall()
    assert history == [(1, 100, "monthly run", False), (3, 90, "monthly run", True)]
    assert serving.missing(connection, [1, 3]) == []


def test_a_publication_of_another_lake_is_refused(connection):
    load(connection, rows(1, {ANA: "100"}))

    with pytest.raises(CallError, match="publication 1 is in PostgreSQL with other content"):
        load(connection, rows(1, {BEN: "1"}), rows_hash="z")
    with pytest.raises(CallError, match="serves publication 1, which is not in the ledger"):
        serving.missing(connection, [2])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"subscriptions": 3}, "should be 3 rows, 4000000000 bytes, 150.000000000000 gCO2e; 2 rows came"),
        ({"data_volume_bytes": 1}, "should be 2 rows, 1 bytes"),
        ({"footprint_gco2e": Decimal("150.000000000001")}, "150.000000000001 gCO2e; 2 rows came"),
        ({"usage_month": NOVEMBER}, "partition constraint"),
        ({"publication_id": 2}, "partition constraint"),
        ({"revision": 3}, "2 rows came, of which its own are 0 rows"),
    ],
)
def test_rows_that_do_not_add_up_to_the_ledger_are_refused_and_nothing_is_left(connection, changes, says):
    load(connection, rows(7, {EVE: "5"}))
    with pytest.raises(Refused, match=says):
        load(connection, rows(8, {ANA: "100", BEN: "50"}, revision=2), **{"publication_id": 8, **changes})

    assert served(connection) == [(EVE, OCTOBER, 5, 7)]
    assert connection.execute("SELECT DISTINCT publication_id FROM footprint.revisions").fetchall() == [(7,)]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("subscription_key", pa.array([ANA, ANA]), "could not create unique index"),
        ("subscription_key", pa.array([ANA, None]), "not as published is declared, in columns subscription_key"),
        ("subscription_key", pa.array([ANA, "\0"]), "refused a value"),
        ("volume_gco2e", pa.array([Decimal(1), Decimal(2)], pa.decimal128(24, 12)), "footprint_is_its_parts"),
        ("data_volume_bytes", pa.array(["1", "2 GB"]), "in columns data_volume_bytes"),
    ],
)
def test_a_refused_row_is_not_quoted(connection, column, values, says):
    batch = rows(1, {ANA: "100", BEN: "50"})
    wrong = batch.set_column(batch.schema.get_field_index(column), pa.field(column, values.type), values)
    with pytest.raises(Refused, match=says) as refusal:
        serving.load_publication(connection, ledger_row(batch), [wrong])

    assert ANA not in str(refusal.value)
    assert "2 GB" not in str(refusal.value)
    assert served(connection) == []


def test_the_log_of_the_server_quotes_no_row(settings, connection):
    with pytest.raises(Refused):
        load(connection, rows(1, {ANA: "-1"}))

    log = (settings.var / "serving" / "log").read_text()
    assert "violates check constraint" in log
    assert ANA not in log


def test_a_reader_sees_the_old_month_until_the_new_one_is_complete(settings, connection):
    load(connection, rows(1, {ANA: "100", BEN: "50"}))
    new = rows(2, {ANA: "90", EVE: "10"}, revision=2)
    seen = []
    with postgres.connect(settings) as reader:

        def watched_rows() -> Iterator[pa.RecordBatch]:
            yield new.slice(0, 1)
            seen.append(served(reader))
            yield new.slice(1)

        class WatchedTexts(dict):
            def items(self):
                seen.append(served(reader))  # published is replaced by now, and not committed
                return super().items()

        serving.load_publication(connection, ledger_row(new), watched_rows(), serving.Beside(method_texts=WatchedTexts()))
        old = [(ANA, OCTOBER, 100, 1), (BEN, OCTOBER, 50, 1)]
        assert seen == [old, old]
        assert served(reader) == [(ANA, OCTOBER, 90, 2), (EVE, OCTOBER, 10, 2)]


def test_rows_of_a_publication_that_is_awaited_are_not_seen_before_it_is_in_the_ledger(settings, connection):
    load(connection, rows(1, {ANA: "100"}))
    new = rows(2, {ANA: "90"}, revision=2)
    named = {"publication_id": 2, "usage_month": OCTOBER}
    seen = []

    def awaited():
        with postgres.connect(settings) as reader:
            seen.append(served(reader))
        return ledger_row(new), serving.Beside()

    assert serving.load_publication(connection, named, [new], awaited=awaited)

    assert seen == [[(ANA, OCTOBER, 100, 1)]]
    assert served(connection) == [(ANA, OCTOBER, 90, 2)]


@pytest.mark.parametrize("wrong", [None, "1000"])
def test_a_publication_that_does_not_come_or_has_other_sums_leaves_nothing(connection, wrong):
    load(connection, rows(1, {ANA: "100"}))
    new = rows(2, {ANA: "90"}, revision=2)

    def awaited():
        if wrong is None:
            raise RuntimeError("it was not published")
        return ledger_row(new, footprint_gco2e=Decimal(wrong)), serving.Beside()

    with pytest.raises((RuntimeError, Refused)):
        serving.load_publication(connection, {"publication_id": 2, "usage_month": OCTOBER}, [new], awaited=awaited)

    assert served(connection) == [(ANA, OCTOBER, 100, 1)]
    assert connection.execute("SELECT count(*) FROM footprint.revisions WHERE publication_id = 2").fetchone() == (0,)


def test_a_loader_killed_half_way_leaves_the_old_month(settings, connection, tmp_path):
    old, new = rows(1, {ANA: "100"}), rows(2, {ANA: "90", BEN: "1"}, revision=2)
    load(connection, old)
    loader = run_python(
        f"""
        import tests.test_serving as t, sys, time
        def slow(batch):
            yield batch
            print("half", flush=True)
            time.sleep(60)
        settings = t.settings_in(t.Path({str(settings.var)!r}))
        batch = t.rows(2, {{t.ANA: "90", t.BEN: "1"}}, revision=2)
        t.serving.load_publication(t.postgres.connect(settings), t.ledger_row(batch), slow(batch))
        """
    )
    assert loader.stdout.readline() == "half\n"
    end(loader)

    assert served(connection) == [(ANA, OCTOBER, 100, 1)]
    assert load(connection, new)
    assert served(connection) == [(ANA, OCTOBER, 90, 2), (BEN, OCTOBER, 1, 2)]


def test_verdict_and_method_texts_are_loaded_with_the_publication(connection):
    batch = rows(1, {ANA: "1"})
    verdict = {
        "verdict_id": 1,
        "usage_month": OCTOBER,
        "revision": 1,
        "batch_cutoff": 1,
        "factors_id": "f",
        "code_version": "0",
        "passed": True,
        "rules": 9,
        "failures": 0,
        "warnings": 0,
        "summary": "",
        "judged_at": datetime(2026, 11, 5, tzinfo=UTC),
    }
    texts = {("m1", "fr"): "Méthode", ("m1", "en"): "Method"}
    serving.load_publication(connection, ledger_row(batch), [batch], serving.Beside([(VERDICTS, [verdict])], (), texts))
    later = rows(2, {ANA: "2"}, revision=2)
    corrected = serving.Beside([(VERDICTS, [verdict])], (), {("m1", "fr"): "Méthode 2"})
    serving.load_publication(connection, ledger_row(later), [later], corrected)

    assert connection.execute("SELECT verdict_id, passed, judged_at FROM footprint.verdicts").fetchall() == [
        (1, True, verdict["judged_at"])
    ]
    assert connection.execute("SELECT language, text FROM footprint.method_texts ORDER BY 1").fetchall() == [
        ("en", "Method"),
        ("fr", "Méthode 2"),
    ]


def test_what_a_restatement_changed_comes_with_its_publication_once_and_goes_with_the_figures(connection):
    def correction(who: str) -> dict[str, object]:
        row = {column.name: 1 for column in CORRECTIONS.columns}
        return row | {"subscription_key": who, "usage_month": OCTOBER, "publication_id": 2, "to_revision": 2, "reason": "late"}

    load(connection, rows(1, {ANA: "1", BEN: "1"}))
    again = rows(2, {ANA: "2", BEN: "1"}, revision=2)
    of = {"publication_id": 2, "usage_month": OCTOBER, "revision": 2, "network": "mobile", "cause": "late_usage"}
    exact = Decimal("1.000000000000000000000001")
    differences = [{**of, "octets": -5, "gco2e": exact, "subscriptions": 1}]
    for _ in range(2):
        told = pa.RecordBatch.from_pylist([correction(ANA)], CORRECTIONS.arrow_schema)
        serving.load_publication(connection, ledger_row(again), [again], serving.Beside([(RESTATEMENTS, differences)], [told]))

    statement = "SELECT subscription_key, from_revision, to_revision, reason FROM footprint.corrections"
    assert connection.execute(statement).fetchall() == [(ANA, 1, 2, "late")]
    assert connection.execute("SELECT cause, octets, gco2e FROM footprint.restatements").fetchall() == [("late_usage", -5, exact)]
    reason, earlier = serving.change_of(connection, serving.published_row(connection, ANA, OCTOBER))
    assert (reason, earlier) == ("monthly run", None), "this ledger row names no publication before it"
    serving.erase(connection, [OCTOBER], ANA)
    assert connection.execute(statement).fetchall() == []


RELATIONS = (*(table.name for table in TABLES), *(view.name for view in VIEWS))
WRITES = (
    "INSERT INTO footprint.publications SELECT * FROM footprint.publications",
    "INSERT INTO footprint.method_texts VALUES ('m', 'fr', '')",
    "UPDATE footprint.published SET brand = ''",
    "DELETE FROM footprint.published",
    "TRUNCATE footprint.published",
    "DROP TABLE footprint.published",
    "CREATE TABLE footprint.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE TEMPORARY TABLE mine (a int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "BEGIN; LOCK TABLE footprint.published IN ACCESS EXCLUSIVE MODE",
    "COPY footprint.published TO PROGRAM 'cat'",
)


@pytest.mark.parametrize("role", READERS)
def test_a_role_reads_what_is_granted_and_nothing_else(settings, role):
    with psycopg.connect(postgres.url(settings, role), autocommit=True) as reader:
        for relation in RELATIONS:
            statement = f"SELECT * FROM footprint.{relation}".encode()
            if relation in READERS[role]:
                reader.execute(statement)
            else:
                with pytest.raises(InsufficientPrivilege):
                    reader.execute(statement)


@pytest.mark.parametrize("role", READERS)
@pytest.mark.parametrize("statement", WRITES)
def test_no_role_writes(settings, role, statement):
    with psycopg.connect(postgres.url(settings, role), autocommit=True) as reader, pytest.raises(InsufficientPrivilege):
        reader.execute(statement.encode())


def test_columns_carry_their_meaning(connection):
    statement = "SELECT col_description('footprint.published'::regclass, 1), obj_description('footprint.publications'::regclass)"
    assert connection.execute(statement).fetchone() == (PUBLISHED.columns[0].comment, PUBLICATIONS.comment)


def test_preparing_again_changes_nothing(connection):
    newest = "SELECT max(xmin::text::bigint) FROM pg_class WHERE relnamespace = 'footprint'::regnamespace"
    before = connection.execute(newest).fetchone()
    prepare(connection)
    assert connection.execute(newest).fetchone() == before


def test_a_table_of_another_declaration_is_refused(connection):
    with connection.transaction(force_rollback=True):
        connection.execute("ALTER TABLE footprint.published ALTER brand TYPE varchar(9), ADD more int")
        connection.execute("COMMENT ON SCHEMA footprint IS 'as an earlier version left it'")
        with pytest.raises(CallError, match=r"footprint.published .* another declaration \(columns brand, more\)"):
            prepare(connection)


def test_a_table_that_was_made_in_one_piece_is_refused(connection):
    with connection.transaction(force_rollback=True):
        connection.execute("ALTER TABLE footprint.revisions RENAME TO was")
        connection.execute("CREATE TABLE footprint.revisions (LIKE footprint.was)")
        connection.execute("COMMENT ON SCHEMA footprint IS 'as an earlier version left it'")
        with pytest.raises(CallError, match=r"footprint.revisions .* another declaration .* drop schema footprint"):
            prepare(connection)


def test_on_another_server_the_administrator_is_told_what_to_run(settings, connection):
    connection.execute("CREATE DATABASE elsewhere")
    connection.execute("ALTER DATABASE elsewhere SET footprint.is_embedded = off")
    connection.execute("CREATE ROLE loader LOGIN PASSWORD 's3cret'")
    place = postgres.url(settings, "loader").replace("/postgres?", "/elsewhere?")
    external = settings_in(settings.var, FOOTPRINT_SERVING_URL=place.replace("loader@", "loader:s3cret@"))
    administrator = psycopg.connect(place.replace("loader@", "postgres@"), autocommit=True)
    try:
        with postgres.connect(external) as loader:
            with pytest.raises(CallError, match="ask an administrator to run: CREATE SCHEMA") as refusal:
                prepare(loader)
            administrator.execute(str(refusal.value).split("run: ")[1].encode())
            prepare(loader)
            assert load(loader, rows(1, {ANA: "1"}))
            assert "s3cret" not in postgres.url(external)
    finally:
        administrator.close()
        connection.execute("DROP DATABASE elsewhere WITH (FORCE)")
        connection.execute("DROP ROLE loader")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:s3cret@127.0.0.1:1/db",
        "postgresql://ana:s3@cret@127.0.0.1:1/db",
        "postgresql://ana:s3/cret@127.0.0.1:1/db",
        "postgresql://ana:s3?cret@127.0.0.1:1/db",
        "postgresql//ana:s3cret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=s3cret",
        "jdbc:postgresql://127.0.0.1:1/db?user=ana&password=s3cret",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(tmp_path, url):
    with pytest.raises(CallError, match="FOOTPRINT_SERVING_URL") as refusal:
        postgres.connect(settings_in(tmp_path, FOOTPRINT_SERVING_URL=url))
    assert "cret" not in str(refusal.value)
    assert "s3" not in str(refusal.value)


def test_the_server_of_somebody_else_is_neither_started_nor_stopped(tmp_path):
    external = settings_in(tmp_path, FOOTPRINT_SERVING_URL="postgresql://db.example/footprint")
    for call in (serving.start, postgres.start_embedded, postgres.stop_embedded):
        with pytest.raises(CallError, match="FOOTPRINT_SERVING_URL is set"):
            call(external)
    with pytest.raises(CallError, match="administrator grants footprint_portal"):
        postgres.url(external, "footprint_portal")
    assert postgres.url(external) == "postgresql://db.example/footprint"


def test_an_old_server_is_refused(settings, monkeypatch):
    monkeypatch.setattr(postgres, "OLDEST_VERSION", 99)
    with pytest.raises(CallError, match=r"PostgreSQL 18 at .* is too old: version 99"):
        postgres.connect(settings)


def run_python(program: str) -> subprocess.Popen[str]:
    """A Python process in a process group of its own."""
    body = "\n".join(line.removeprefix(" " * 8) for line in program.splitlines())
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", body],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process group as Airflow does, and wait."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


STARTER = """
        import sys, time
        from pathlib import Path
        from jobs import embedded
        print(embedded.start(Path({folder!r})), flush=True)
        time.sleep({seconds})
"""


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "ended"])
def test_the_server_outlives_the_process_that_started_it(tmp_path, is_killed):
    folder = tmp_path / "serving"
    starter = run_python(STARTER.format(folder=str(folder), seconds=60 if is_killed else 0))
    started = starter.stdout.readline().strip()
    if is_killed:
        end(starter)
    else:
        starter.communicate()
    time.sleep(0.5)
    try:
        with psycopg.connect(started) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert embedded.start(folder) == started
    finally:
        assert embedded.stop(folder)
    assert embedded.url(folder) is None
    assert not embedded.stop(folder)


def test_a_start_that_was_cut_short_is_made_again(tmp_path):
    folder = tmp_path / "serving"
    (tmp_path / "serving.new").mkdir()
    (tmp_path / "serving.new" / "PG_VERSION").write_text("18\n")
    starter = run_python(STARTER.format(folder=str(folder), seconds=60))
    time.sleep(0.6)
    end(starter)
    try:
        assert embedded.start(folder)
    finally:
        assert embedded.stop(folder)


def test_a_crashed_server_starts_again_although_its_process_number_is_in_use(tmp_path):
    folder = tmp_path / "serving"
    embedded.start(folder)
    pid_file = folder / "postmaster.pid"
    pid, _, rest = pid_file.read_text().partition("\n")
    os.kill(int(pid), signal.SIGKILL)
    time.sleep(1)  # its other processes end
    pid_file.write_text(f"{os.getpid()}\n{rest}")
    try:
        assert embedded.start(folder)
    finally:
        assert embedded.stop(folder)


def test_who_connects_waits_for_a_server_that_was_begun(tmp_path, monkeypatch):
    settings, started = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)}), []
    monkeypatch.setattr(embedded, "_started", lambda folder, begin=embedded._started: (started.append(folder), begin(folder))[1])
    try:
        postgres.begin_embedded(settings)
        with postgres.connect(settings) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert len(started) == 1
    finally:
        postgres.stop_embedded(settings)


def test_why_a_server_that_was_begun_does_not_start_is_said_to_who_connects(tmp_path):
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)})
    embedded.start(tmp_path / "serving")
    embedded.stop(tmp_path / "serving")
    (tmp_path / "serving" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")

    postgres.begin_embedded(settings)

    with pytest.raises(CallError, match="did not start"):
        postgres.connect(settings)


def test_a_server_that_cannot_start_is_refused_with_its_log(tmp_path):
    folder = tmp_path / "serving"
    embedded.start(folder)
    embedded.stop(folder)
    (folder / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(CallError, match=r"did not start: it ended, .*; its log is .*serving/log"):
        embedded.start(folder)


@pytest.mark.parametrize("name", ["l" * 120, "with space, comma 'and' quotes"])
def test_a_long_or_odd_folder_serves_too(tmp_path, name):
    folder = tmp_path / name / "serving"
    try:
        with psycopg.connect(embedded.start(folder)) as connection:
            assert connection.execute("SHOW data_directory").fetchone() == (str(folder),)
            socket = Path(connection.info.host)
        assert socket.stat().st_mode & 0o077 == 0
    finally:
        assert embedded.stop(folder)
    assert not socket.exists()


def test_a_url_is_not_invented_for_a_server_that_does_not_run(tmp_path):
    with pytest.raises(CallError, match="footprint serving start"):
        postgres.url(settings_in(tmp_path))
