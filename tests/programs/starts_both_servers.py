"""Starts a server of each kind, says which, and waits to be killed; run it with -m."""

import time

from tests.servers import PostgresServer, RedisServer

redis, postgres = RedisServer(), PostgresServer()
redis.start()
postgres.start()
print(redis.pid, redis.folder, postgres.pid, postgres.folder, flush=True)  # noqa: T201
time.sleep(600)
