"""Where an entry lies does not change from release to release: streams outlive them."""

from collections import Counter
from uuid import UUID

import pytest

from lykke_cli.application.errors import BadInput, UsageMistake
from lykke_cli.infrastructure.redis.cluster import slot_of
from lykke_cli.infrastructure.redis.stream_layout import (
    PARTITIONS,
    agreed_partitions,
    partition_of,
    place_name,
    stream_name,
    stream_names,
)

USER = UUID("7b0f7a3c-58d4-4f0e-9c55-0f5d0a9b8c11")


def test_the_partition_of_a_user_stays_the_same() -> None:
    assert partition_of(USER, PARTITIONS) == 3
    assert partition_of(USER, 7) == 3


def test_users_are_spread_evenly() -> None:
    found = Counter(partition_of(UUID(int=n << 70 | 5), PARTITIONS) for n in range(16_000))
    assert len(found) == PARTITIONS
    assert min(found.values()) > 800


def test_streams_are_spread_over_a_cluster() -> None:
    names = list(stream_names("auditlog", PARTITIONS))
    assert names[0] == "auditlog:{00}" and names[-1] == "auditlog:{15}"
    thirds = Counter(slot_of(name.encode()) // 5_462 for name in names)
    assert len(thirds) == 3


def test_a_place_is_in_the_slot_of_its_stream() -> None:
    assert place_name("auditlog", 7) == "auditlog:{07}:place"
    assert slot_of(place_name("auditlog", 7).encode()) == slot_of(
        stream_name("auditlog", 7).encode()
    )


def test_what_is_stored_holds() -> None:
    assert agreed_partitions("auditlog", b"4") == 4
    assert agreed_partitions("auditlog", b"4", asked=4) == 4
    with pytest.raises(UsageMistake, match="4 partitions, not 16"):
        agreed_partitions("auditlog", b"4", asked=16)


@pytest.mark.parametrize("stored", [b"", b"0", b"257", b"-1", b"sixteen", b"\xff", "²".encode()])
def test_what_is_no_number_of_partitions_is_refused(stored: bytes) -> None:
    with pytest.raises(BadInput, match="auditlog:partitions"):
        agreed_partitions("auditlog", stored)
