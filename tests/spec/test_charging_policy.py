"""What the shipped policy makes of charging records: which are one and the same, which are not the subscriber's data."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from jobs.files import read_records
from jobs.outcomes import Counts, Policy, usage_outcomes
from jobs.pseudonyms import FROM_THE_BEGINNING, Key
from jobs.readers.block import Tally
from jobs.run import PROJECT
from schemas.source import UsageSource, read_source
from tests.conftest import keys_of
from tests.readers.ber import FileForm, encoded, file_of, plmn, record, service_data, stamp, tbcd, traffic_volume
from tests.readers.charging_files import EIGHT, SEVEN, SIX

SOURCES = PROJECT / "schemas" / "sources"
KEYS = keys_of((FROM_THE_BEGINNING, Key("identifier", bytes(range(32)))))


def gateway(**changes: Any) -> bytes:
    sound: dict[str, Any] = {
        "servedIMSI": tbcd("001010000000001"),
        "chargingID": 7,
        "accessPointNameNI": "internet",
        "recordOpeningTime": stamp(SIX),
        "duration": 3600,
        "recordSequenceNumber": 1,
        "nodeID": "pgw-1",
        "localSequenceNumber": 100,
        "servingNodePLMNIdentifier": plmn("001", "01"),
        "rATType": 6,
    }
    record_type = changes.pop("record_type", "pgw")
    usage = service_data(ratingGroup=10, up=1, down=2, timeOfReport=stamp(SEVEN))
    sound["listOfServiceData"] = (usage,)
    if record_type == "sgw":
        del sound["listOfServiceData"]
        sound["listOfTrafficVolumes"] = (traffic_volume(up=1, down=2, changeTime=stamp(SEVEN)),)
    return encoded(record(record_type, **{**sound, **changes}))


def decided(tmp_path: Path, *records: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
    """Accepted and rejected rows, and records out of scope by reason."""
    source = read_source(SOURCES / "pgw_ts32297.toml")
    assert isinstance(source, UsageSource)
    path, counts = tmp_path / "a_PGW_1.cdr", Counts()
    path.write_bytes(file_of(records, FileForm()))
    found: dict[str, list[dict[str, Any]]] = {"accepted": [], "rejected": []}
    policy = Policy(ZoneInfo("Europe/Paris"), KEYS, KEYS)
    for block in read_records(str(path), path.stat().st_size, source, Tally()):
        for columns in usage_outcomes(block, source, policy, counts):
            for row in pa.table(columns).to_pylist():
                found[row["kind"]].append(row)
    return found["accepted"], found["rejected"], {reason: n for reason, n in counts.out_of_scope.items() if n}


def test_a_charging_id_that_comes_round_again_is_another_record(tmp_path):
    later = SIX + timedelta(days=90)
    usage = service_data(ratingGroup=10, up=1, down=2, timeOfReport=stamp(later + timedelta(hours=1)))
    again = gateway(recordOpeningTime=stamp(later), listOfServiceData=(usage,))
    accepted, _, _ = decided(tmp_path, gateway(), again, gateway(localSequenceNumber=101), gateway())

    keys = [row["record_key"] for row in accepted]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]


def test_records_of_the_serving_node_measure_the_same_octets_and_are_out_of_scope(tmp_path):
    accepted, rejected, outside = decided(tmp_path, gateway(), gateway(record_type="sgw"))

    assert [(row["octets_up"], row["octets_down"]) for row in accepted] == [(1, 2)]
    assert (rejected, outside) == ([], {"other_record_type": 1})


def test_inbound_roamers_and_the_ims_apn_are_out_of_scope(tmp_path):
    accepted, rejected, outside = decided(tmp_path, gateway(servedIMSI=tbcd("262010000000001")), gateway(accessPointNameNI="ims"))

    assert (accepted, rejected, outside) == ([], [], {"inbound_roamer": 1, "ims_apn": 1})


@pytest.mark.parametrize(("network", "zone"), [(("001", "01"), "home"), (("262", "01"), "roaming"), (("310", "410"), "roaming")])
def test_the_serving_network_says_whether_it_is_roaming(tmp_path, network, zone):
    (row,), _, _ = decided(tmp_path, gateway(servingNodePLMNIdentifier=plmn(*network)))

    assert row["roaming_zone"] == zone


def test_a_record_is_taken_with_all_its_intervals_or_not_at_all(tmp_path):
    sound = service_data(ratingGroup=10, up=1, down=2, timeOfReport=stamp(SEVEN))
    damaged = service_data(ratingGroup=20, up=10**15, down=2, timeOfReport=stamp(SEVEN))

    accepted, rejected, _ = decided(tmp_path, gateway(listOfServiceData=(sound, damaged, sound)))

    assert accepted == []
    assert [(row["reason"], row["record_ordinal"], row["usage_month"]) for row in rejected] == [
        ("volume_out_of_range", 1, date(2026, 10, 1))
    ]


def test_containers_are_intervals_each_with_its_own_times_and_month(tmp_path):
    midnight = datetime(2026, 10, 31, 23, tzinfo=SIX.tzinfo)
    before = service_data(ratingGroup=10, up=1, down=2, timeOfReport=stamp(EIGHT))
    after = service_data(
        ratingGroup=10,
        timeOfFirstUsage=stamp(midnight),
        timeOfReport=stamp(midnight + timedelta(hours=1)),
        down=4,
    )

    accepted, _, _ = decided(tmp_path, gateway(listOfServiceData=(before, after)))

    assert [(r["usage_month"].month, r["interval_index"], r["octets_up"], r["octets_down"]) for r in accepted] == [
        (10, 0, 1, 2),
        (11, 1, 0, 4),
    ]
    assert len({row["record_key"] for row in accepted}) == 1


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(tmp_path):
    from jobs.readers.block import ReadFault

    source = read_source(SOURCES / "pgw_ts32297.toml")
    path = tmp_path / "a_PGW_1.cdr"
    path.write_bytes(file_of([gateway()], FileForm()))
    size = path.stat().st_size

    blocks = read_records(str(path), size, source, Tally())
    next(blocks)
    with path.open("ab") as file:
        file.write(gateway())

    with pytest.raises(ReadFault, match=f"^the file changed while it was read: {size} octets when it was registered"):
        list(blocks)
