"""By streams: what cannot have come is a gap, and a tail with a database prints it all the same."""

import uuid

import pytest

from lykke_cli import Gap
from lykke_cli.infrastructure.gateways.redis_stream import RedisStreamGateway
from lykke_cli.infrastructure.redis.stream_layout import (
    MESSAGE,
    PARTITIONS,
    USER,
    partition_of,
    stream_name,
)
from tests.cli_process import LykkeProcess
from tests.faults.writer import FAST, Writer
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]
SOON = 60.0  # seconds, on a machine that has much else to do


def test_a_tail_prints_what_the_relay_writes_whatever_befalls_the_streams(
    postgres_server: PostgresServer, postgres_database: str, own_redis: RedisServer
) -> None:
    with Writer(postgres_server, postgres_database, own_redis, lose=1) as writer:
        env = {"DATABASE_URL": writer.url, "REDIS_URL": own_redis.url}
        options = ("--since", "40d", "--transport", "stream", *FAST)
        with (
            LykkeProcess("relay", env=env) as relay,
            LykkeProcess("tail", writer.user, *options, env=env) as tail,
        ):
            tail.wait_for("following", SOON)
            relay.wait_for("relaying into", SOON)
            writer.wait_for(30)
            with own_redis.client() as client:
                client.delete(stream_name("auditlog", partition_of(writer.user, PARTITIONS)))
            tail.wait_for("connected again", SOON)
            writer.wait_for(30)
            own_redis.kill()
            writer.wait_for(30)
            own_redis.start()
            tail.wait_for("connected again", SOON, times=2)
            writer.wait_for(30)
            writer.assert_printed_exactly_once(tail, deadline=SOON)


@pytest.mark.parametrize("how", ["trimmed", "deleted", "went back"])
async def test_what_cannot_have_come_is_a_gap(own_redis: RedisServer, how: str) -> None:
    user = uuid.uuid4()
    stream = stream_name("auditlog", partition_of(user, PARTITIONS))
    async with RedisStreamGateway(f"{own_redis.url}?transport=stream") as gateway:
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            await gateway.publish_to_user_channel(user, "auditlog", {"n": 1})
            assert await subscription.get_message(SOON) == {"n": 1}
            with own_redis.client() as client, client.pipeline() as pipeline:
                if how != "trimmed":
                    pipeline.delete(stream)
                if how == "went back":
                    pipeline.xadd(stream, {USER: str(user), MESSAGE: b"{}"}, id="1-1")
                if how == "trimmed":
                    for number in range(3):
                        fields = {USER: str(user), MESSAGE: b'{"n":%d}' % number}
                        pipeline.xadd(stream, fields)
                    pipeline.xtrim(stream, maxlen=1, approximate=False)
                pipeline.execute()
            assert isinstance(await subscription.get_message(SOON, gaps=True), Gap)
            await gateway.publish_to_user_channel(user, "auditlog", {"n": 2})
            assert await subscription.get_message(SOON) == {"n": 2}
