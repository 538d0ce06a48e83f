"""Partitions come and go, and rows are moved between them, while a tail follows a writer."""

import pytest

from tests.cli_process import LykkeProcess
from tests.faults.writer import Writer
from tests.servers import READER_PASSWORD, PostgresServer, RedisServer, wait_until

TABLE = """
    DROP TABLE audit_logs;
    CREATE TABLE audit_logs (
        id uuid, user_id uuid NOT NULL, activity_type varchar NOT NULL,
        occurred_at timestamp NOT NULL, entity_id uuid, entity_type varchar, meta jsonb
    ) PARTITION BY {how};
    GRANT SELECT ON audit_logs TO reader;
    {partitions};
    CREATE TABLE archive (LIKE audit_logs);
"""
ARCHIVED = """
    INSERT INTO archive
    SELECT gen_random_uuid(), '{user}', 'ARCHIVED', '1990-05-01', NULL, 'b', '{{}}'
    FROM generate_series(1, 50)
"""
ATTACH = "ALTER TABLE audit_logs ATTACH PARTITION archive {bounds}"
BY_RANGE = {
    "how": "RANGE (occurred_at)",
    "partitions": "CREATE TABLE current PARTITION OF audit_logs FOR VALUES FROM ('2000-01-01') "
    "TO (MAXVALUE)",
    "bounds": "FOR VALUES FROM ('1990-01-01') TO ('1991-01-01')",
    "move": "occurred_at = '1990-07-01'",
}
BY_LIST = {
    "how": "LIST (entity_type)",
    "partitions": "CREATE TABLE current PARTITION OF audit_logs FOR VALUES IN (NULL, 'a')",
    "bounds": "FOR VALUES IN ('b')",
    "move": "entity_type = 'b'",
}
MOVE = """
    UPDATE audit_logs SET {move}
    WHERE id IN (SELECT id FROM audit_logs WHERE activity_type <> 'ARCHIVED' LIMIT 20)
"""


@pytest.mark.parametrize("table", [BY_RANGE, BY_LIST], ids=["range", "list"])
def test_partitions_come_and_go_while_a_tail_follows(
    postgres_server: PostgresServer,
    postgres_database: str,
    own_redis: RedisServer,
    table: dict[str, str],
) -> None:
    def execute(sql: str) -> None:
        postgres_server.execute(sql, postgres_database)

    execute(TABLE.format(**table))
    env = {
        "DATABASE_URL": postgres_server.url(postgres_database, "reader", READER_PASSWORD),
        "REDIS_URL": own_redis.url,
    }
    with (
        Writer(postgres_server, postgres_database, own_redis, lose=0.2) as writer,
        LykkeProcess(
            "tail", writer.user, "--since", "40d", "--reconcile", "300ms", env=env
        ) as tail,
    ):
        tail.wait_for("following")
        writer.wait_for(30)
        execute(ARCHIVED.format(user=writer.user))
        for _ in range(2):
            execute(ATTACH.format(**table))
            wait_until(lambda: tail.stdout.count(b'"ARCHIVED"') >= 50, "what was attached is read")
            execute(MOVE.format(**table))
            writer.wait_for(30)
            execute("ALTER TABLE audit_logs DETACH PARTITION archive")
            writer.wait_for(30)
            own_redis.cut_subscribers()
        writer.stop()
        own_redis.cut_subscribers()  # those back-dated wait for a full read
        execute(ATTACH.format(**table))
        writer.assert_printed_exactly_once(tail)
