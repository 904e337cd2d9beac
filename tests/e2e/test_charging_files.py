"""Charging files written by other people's software, through land and accept. The tests tell one story, in order, on one lake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.run import PROJECT, Settings

SAMPLES = PROJECT.parent / "shared" / "samples"
pytestmark = [
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here"),
]

OCTOBER = "2026-10"


def deliver(settings: Settings, sample: str, place: str) -> None:
    path = Path(settings.landing) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SAMPLES / sample, path)


def counted(settings: Settings, source: str) -> dict[str, tuple[int, int]]:
    """Octets up and down that count, by identifier in the clear, of the samples' identifiers."""
    from pyspark.sql import functions as F

    from jobs.batches import AsOf
    from jobs.lake import Lake
    from jobs.pseudonyms import IDENTIFIER_KEY, terms_of
    from jobs.spark import session
    from schemas.tables import ACCEPTED

    key = terms_of(settings.keys, IDENTIFIER_KEY).of_month(0)
    names = {key.pseudonym("imsi", imsi): imsi for imsi in (f"00101{number:010}" for number in range(10))}
    rows = AsOf.now(Lake(lambda: session(settings), settings.lake, lambda: None)).rows(ACCEPTED).where(F.col("source") == source)
    sums = rows.groupBy("identifier_key").agg(F.sum("octets_up").alias("up"), F.sum("octets_down").alias("down"))
    return {names[bytes(row.identifier_key)]: (row.up, row.down) for row in sums.collect()}


def expected(*samples: str) -> dict[str, tuple[int, int]]:
    totals: dict[str, Any] = json.loads((SAMPLES / "expected_totals.json").read_text(encoding="utf-8"))
    sums: dict[str, tuple[int, int]] = {}
    for sample in samples:
        for imsi, found in totals[sample]["per_subscriber"].items():
            up, down = sums.get(imsi, (0, 0))
            sums[imsi] = (up + found["uplink"], down + found["downlink"])
    return sums


def test_gateway_files_are_accepted_to_the_octet_over_a_month_end(settings, run):
    for number in ("41", "42"):
        deliver(settings, f"3gpp_open5gs/open5gs_PGW_0000{number}.cdr", f"pgw_ts32297/open5gs_PGW_0000{number}.cdr")

    said = run(settings, OCTOBER, ("land", "accept"))

    assert said[-1] == "accept    2 files in batch 1: 80 received, 70 accepted, 0 duplicate, 0 rejected, 10 out of scope"
    totals = expected("open5gs_PGW_000041.cdr", "open5gs_PGW_000042.cdr")
    totals.pop("001010000000007")  # on the IMS APN, which is not the subscriber's data
    assert counted(settings, "pgw_ts32297") == totals


def test_a_session_file_that_is_written_again_counts_once(settings, run):
    deliver(settings, "3gpp_free5gc_chf/free5gc_chf_sessionA_v1.cdr", "chf_ts32297/sessionA.cdr")
    run(settings, OCTOBER, ("land", "accept"))
    assert counted(settings, "chf_ts32297") == expected("free5gc_chf_sessionA_v1.cdr")

    deliver(settings, "3gpp_free5gc_chf/free5gc_chf_sessionA_v2_rewritten.cdr", "chf_ts32297/sessionA.cdr")
    run(settings, OCTOBER, ("land", "accept"))

    assert counted(settings, "chf_ts32297") == expected("free5gc_chf_sessionA_v2_rewritten.cdr")


def test_the_same_session_under_two_names_counts_each_container_once(settings, run):
    deliver(settings, "3gpp_free5gc_chf/free5gc_chf_sessionA_v1.cdr", "chf_ts32297/sessionA_again.cdr")

    run(settings, OCTOBER, ("land", "accept"))

    assert counted(settings, "chf_ts32297") == expected("free5gc_chf_sessionA_v2_rewritten.cdr")


def test_a_roaming_file_among_charging_files_is_refused_by_name_and_the_rest_goes_on(settings, run):
    deliver(settings, "tap3_libxfsx/nrt_2_1.ber", "pgw_ts32297/stray_PGW_000001.cdr")

    said = run(settings, OCTOBER, ("land", "accept"))

    stray = "accept    pgw_ts32297/stray_PGW_000001.cdr could not be read to its end: "
    assert f"{stray}this is an NRTRDE file (GSMA TD.35), not a TS 32.297 file" in said


def test_what_network_elements_numbered_is_complete(settings):
    from jobs.completeness import gaps
    from jobs.lake import Lake
    from jobs.spark import session
    from schemas.tables import SEQUENCES

    rows = Lake(lambda: session(settings), settings.lake, lambda: None).read(SEQUENCES).where("source = 'pgw_ts32297'").collect()

    assert sum(row.records for row in rows) == 80
    assert (min(row.first_sequence for row in rows), max(row.last_sequence for row in rows)) == (1001, 1080)
    assert gaps(rows) == []
