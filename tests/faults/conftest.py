"""What several tests of faults stand on."""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import RedisCluster


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster
