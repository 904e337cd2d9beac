"""The same month in Polars: ``python -m tests.bench.polars_month LANDING KEYS OUT``.

It does what ``duckdb_month`` does, but for grams, which are floating-point numbers here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from tests.bench.script import ACCEPTED, BEGIN, END, ESTIMATED, FACTORS, PIPE_COLUMNS, hashed, key_of, say_done, say_totals

_NEVER = 1 << 40


def main(landing: Path, keys: Path, out: Path) -> None:
    """Run the month and say what it added up to."""
    say_done("land")
    exported, read = _exported(landing), _records(landing)
    imsis = pl.concat([read["imsi"].unique().cast(pl.String), exported.filter(identifier_type="imsi")["identifier"]]).unique()
    known = pl.DataFrame(
        {"imsi": imsis, "identifier_key": pl.from_arrow(hashed(key_of(keys, "identifier"), "imsi", imsis.to_list()))}
    )
    records = read.join(known.with_columns(pl.col("imsi").cast(pl.Categorical)), on="imsi").drop("imsi")
    _accepted(records).write_parquet(out / ACCEPTED, compression="zstd")
    say_done("accept")
    ids = exported["subscription_id"].unique()
    subscription_keys = pl.from_arrow(hashed(key_of(keys, "serving"), "subscription", ids.to_list()))
    assignments = exported.join(
        pl.DataFrame({"subscription_id": ids, "subscription_key": subscription_keys}), on="subscription_id"
    ).join(known, left_on="identifier", right_on="imsi", how="left")
    usage = _usage(records, assignments)
    say_done("meter")
    estimated = _estimated(assignments, usage)
    estimated.write_parquet(out / ESTIMATED, compression="zstd")
    say_done("estimate")
    say_totals(len(estimated), int(estimated["octets"].sum()), float(estimated["gco2e"].sum()))


def _records(landing: Path) -> pl.DataFrame:
    """The latest of each record that is a subscriber's data, with its instants."""
    number = {name: pl.col(column).cast(pl.Int64, strict=False) for name, column in _NUMBERS.items()}
    hours, minutes = (pl.col("UTCoffset").str.slice(at, 2).cast(pl.Int64, strict=False) for at in (1, 3))
    ahead = (hours * 3600 + minutes * 60) * pl.when(pl.col("UTCoffset").str.starts_with("-")).then(-1).otherwise(1)
    local = pl.col("EventTimestamp").str.to_datetime("%Y%m%d%H%M%S", strict=False).dt.epoch("s")
    # In the order of their numbers, so that the last of some records with one key is the latest.
    files = sorted(landing.glob("pgw_pipe/*"), key=lambda path: (int(path.name[6:12]), path.name))
    lines = pl.scan_csv(
        files, separator="|", has_header=False, quote_char=None, truncate_ragged_lines=True, encoding="utf8-lossy",
        schema=dict.fromkeys(PIPE_COLUMNS, pl.String), include_file_paths="file",
    )  # fmt: skip
    return (
        lines.filter((pl.col("Apn") != "ims") & pl.col("IMSI").str.starts_with("00101"))
        .select(
            imsi=pl.col("IMSI").cast(pl.Categorical),
            record_key=pl.concat_str("RecordType", "CallIdentification", separator="|").hash(),
            roaming_zone="RecordType",
            file=pl.col("file").cast(pl.Categorical),
            opened=local - ahead,
            **number,
        )
        .filter(pl.col("opened").is_not_null() & (pl.col("lasted") >= 0) & (pl.col("up") >= 0) & (pl.col("down") >= 0))
        .with_columns(closed=pl.col("opened") + pl.col("lasted"))
        .unique("record_key", keep="last")
        .collect()
    )


_NUMBERS = {"lasted": "EventDuration", "up": "UploadVol", "down": "DownloadVol"}


def _accepted(records: pl.DataFrame) -> pl.DataFrame:
    moments = {f"{name}_at": pl.from_epoch(name, "s") for name in ("opened", "closed")}
    return records.select(
        "identifier_key", "record_key", "roaming_zone", octets_up="up", octets_down="down", file_name="file", **moments
    )


def _exported(landing: Path) -> pl.DataFrame:
    frames = [pl.read_csv(path, infer_schema=False) for path in landing.glob("subscriptions/*.csv")]

    def seconds(name: str) -> pl.Expr:
        return pl.col(name).str.to_datetime("%+", time_zone="UTC", strict=False).dt.epoch("s").fill_null(_NEVER)

    return pl.concat(frames).with_columns(seconds(name) for name in ("assigned_from", "assigned_to", "active_from", "active_to"))


def _usage(records: pl.DataFrame, assignments: pl.DataFrame) -> pl.DataFrame:
    lasted, closed, opened = pl.col("lasted").clip(1), pl.col("closed"), pl.col("opened")

    def inside(octets: str) -> pl.Expr:
        def until(moment: int) -> pl.Expr:
            before = pl.min_horizontal(pl.lit(moment), closed) - opened
            return pl.col(octets).cast(pl.Int128) * before.clip(0) // lasted

        return until(END) - until(BEGIN)

    holders = assignments.filter(identifier_type="imsi").select(
        "identifier_key", "subscription_key", "assigned_from", "assigned_to"
    )
    held = records.join(holders, on="identifier_key").filter(
        (pl.col("assigned_from") <= pl.col("closed")) & (pl.col("closed") < pl.col("assigned_to"))
    )
    # Few records straddle an end of the month, and a division of 128 bits takes long.
    is_whole = (opened >= BEGIN) & (closed <= END)
    whole = held.filter(is_whole).select("subscription_key", octets=pl.col("up") + pl.col("down"))
    cut = held.filter(~is_whole).select("subscription_key", octets=(inside("up") + inside("down")).cast(pl.Int64))
    return pl.concat([whole, cut]).group_by("subscription_key").agg(pl.col("octets").sum())


def _estimated(assignments: pl.DataFrame, usage: pl.DataFrame) -> pl.DataFrame:
    active = assignments.filter((pl.col("active_from") < END) & (pl.col("active_to") > BEGIN))
    rows = (
        active.unique("subscription_key")
        .join(usage, on="subscription_key", how="left")
        .with_columns(pl.col("octets").fill_null(0))
    )

    def factor(position: int) -> pl.Expr:
        return pl.col("network").replace_strict({network: float(amounts[position]) for network, amounts in FACTORS.items()})

    gco2e = pl.col("octets") / 1e9 * factor(0) + factor(1)
    return rows.select("subscription_key", "network", "octets", gco2e=gco2e)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
