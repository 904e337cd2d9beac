"""A month with bits taken for bytes, or grams for kilograms, is stopped before it is published, and the slip is named."""

from __future__ import annotations

import dataclasses
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from jobs.run import Refused
from tests.e2e import both_engines
from tests.e2e.landing import GB, HEADER, pipe, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MONTH, SUBSCRIPTIONS = "2026-10", 1_000
"""The fewest subscriptions whose mean is judged."""
MEAN = 15 * GB


def landed(landing: Path, octets: int) -> None:
    imsis = [f"0010100000{n:05d}" for n in range(SUBSCRIPTIONS)]
    held = [subscription(f"s{n}", "mobile", ("imsi", imsi)) for n, imsi in enumerate(imsis)]
    write(landing, "subscriptions/subscriptions_202610.csv", [HEADER, *held])
    used = [pipe(imsi, "20261005000000", f"c{n}", octets, seconds=80_000) for n, imsi in enumerate(imsis)]
    write(landing, "pgw_pipe/S4PGWB000001", used)


def test_volumes_in_bits_are_refused_and_named_and_nothing_is_published(settings, run):
    landed(Path(settings.landing), 8 * MEAN)
    run(settings, MONTH, ("land", "accept", "meter", "estimate"))

    with pytest.raises(Refused) as refusal:
        run(settings, MONTH, ("verify",))

    assert "2026-10 is not fit to publish: " in str(refusal.value)
    said = "mean_gigabytes_per_subscription of mobile is 120 GB, allowed 4 to 50 (8 times too much: bits and bytes?)"
    assert said in str(refusal.value)
    with pytest.raises(Refused, match="2026-10 has no passed verdict on what is estimated now: run verify"):
        run(settings, MONTH, ("publish",))


def test_a_factor_in_kilograms_is_refused_and_named(settings, run):
    folder = settings.var / "factors"
    shutil.copytree(settings.factors, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "frozen.toml"))
    text = folder / "sets" / "FR-RCP2-NAT-2022.toml"
    text.write_text(text.read_text(encoding="utf-8").replace('"12.3"', '"0.0123"'), encoding="utf-8")
    wrong = dataclasses.replace(settings, factors=folder)
    run(wrong, MONTH, ("estimate",))

    with pytest.raises(Refused) as refusal:
        run(wrong, MONTH, ("verify",))

    slip = "(1,000 times too little: a step of kilo, mega, giga?)"
    assert f"volume_gco2e_per_gigabyte of mobile is 0.0123 gCO2e/GB, allowed 10 to 55 {slip}" in str(refusal.value)


def test_what_was_judged_is_shown_in_the_lake_and_not_served(settings):
    from contextlib import closing

    from jobs.postgres import connect
    from jobs.serving_schema import prepare

    with closing(connect(settings)) as connection:
        prepare(connection)
    (columns, ours), (_, theirs) = both_engines.in_both(settings, "factor_use")

    used = {row[columns.index("factor_id")]: row[columns.index("gco2e_per_unit")] for row in ours}
    assert used["FR-RCP2-NAT-2022/mobile/volume/2024-01"] == Decimal("0.0123"), "by the latest verdict"
    assert {row[columns.index("is_current")] for row in ours} == {False}
    assert theirs == []
