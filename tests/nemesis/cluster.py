"""The servers of one plan, as readers reach them: through proxies, so that a URL never changes."""

import asyncio
import signal
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.faults.proxy import Proxy
from tests.nemesis.plan import Spelling
from tests.servers import (
    ADMIN_PASSWORD,
    READER_PASSWORD,
    PostgresServer,
    RedisServer,
    wait_until,
)

SETTINGS = {
    "max_prepared_transactions": "20",
    "autovacuum": "off",  # what it does is no part of a plan
    "dynamic_shared_memory_type": "mmap",  # in its folder, which goes with it
    "wal_keep_size": "64MB",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
    "wal_receiver_timeout": "10s",
    "max_standby_streaming_delay": "0",  # who reads what the primary removes is cancelled at once
}
CONFLICT = """
    CREATE TABLE IF NOT EXISTS removed (n int);
    INSERT INTO removed VALUES (1);
    DELETE FROM removed
"""


class NemesisServer(PostgresServer):
    """A PostgreSQL with what a plan may do to it."""

    @classmethod
    def template(cls) -> Self:
        """Stopped, with the roles and the empty table of `make_database`: the others copy it."""
        server = cls()
        server.start()
        server.make_templates()
        for name, value in SETTINGS.items():
            server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        server.stop()
        return server

    def follow(self, primary: int) -> None:
        """Before its start: be the standby of what listens on this port."""
        password = ADMIN_PASSWORD.replace("'", "''")
        link = f"host=127.0.0.1 port={primary} user=postgres password=''{password}''"
        with open(self._data / "postgresql.auto.conf", "a") as settings:
            settings.write(f"\nprimary_conninfo = '{link} password=''{password}'''\n")
        (self._data / "standby.signal").touch()
        self._give_away(self._data / "standby.signal")

    def backup(self) -> None:
        """Keep a copy of it as it is, in order: it restarts."""
        self.stop()
        subprocess.run(["cp", "-Rp", self._data, self.folder / "backup"], check=True)
        self.start()

    def restore(self) -> None:
        """Go back to the copy, if there is one."""
        kept = self.folder / "backup"
        if not kept.exists():
            return
        self.kill()
        subprocess.run(["rm", "-rf", self._data], check=True)
        subprocess.run(["cp", "-Rp", kept, self._data], check=True)
        self.start()

    def stop_wal_writer(self) -> None:
        """Leave commits of synchronous_commit=off in memory."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ProcessLookupError):
                parent = int(status.read_bytes().rpartition(b")")[2].split()[1])
                if parent == self.pid and b"walwriter" in (status.parent / "cmdline").read_bytes():
                    subprocess.run(["kill", f"-{signal.SIGSTOP.value}", status.parent.name])


class Link(Proxy):
    """A proxy that refuses where there is nobody, and that can be cut."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._is_cut = False
        self._clients: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End what is connected, and refuse whoever comes until `mend`."""
        self._is_cut = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hang_up)

    def mend(self) -> None:
        self._is_cut = False

    def _hang_up(self) -> None:
        for writer in self._clients:
            writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            if not self._is_cut:
                await super()._connected(reader, writer)
        finally:
            self._clients.discard(writer)
            writer.close()


class Cluster:
    """A primary, perhaps a standby, and the proxies in front of them.

    `shared` is a server that outlives the plan; else there is one of its own, from `template`.
    """

    def __init__(
        self,
        template: NemesisServer,
        shared: NemesisServer | None,
        redis: RedisServer,
        *,
        with_standby: bool,
    ) -> None:
        self._template = template
        self._shared = shared
        self._with_standby = with_standby
        self._stack = ExitStack()
        self.redis = redis
        self.standby: NemesisServer | None = None
        self.linked = True
        self.on_standby = False
        self.database = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._shared is None:
                self.primary = stack.enter_context(NemesisServer(self._template))
            else:
                self.primary = self._shared
            self.database = self.primary.make_database()
            self.link = stack.enter_context(Link(self.primary.port))
            if self._with_standby:
                self.standby = NemesisServer(self._template)
                stack.callback(self.standby.close)
                self.standby.follow(self.link.port)
                self.standby.start()
            self.to_postgres = stack.enter_context(Link(self.primary.port))
            self.to_redis = stack.enter_context(Link(self.redis.port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def database_url(self, spelling: Spelling) -> str:
        user, password = "postgres", ADMIN_PASSWORD
        if spelling == "other_role":
            user, password = "reader", READER_PASSWORD
        host = "localhost" if spelling == "localhost" else "127.0.0.1"
        secret = quote(password, safe="")
        return f"postgresql://{user}:{secret}@{host}:{self.to_postgres.port}/{self.database}"

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.to_redis.port}"

    @property
    def read(self) -> NemesisServer:
        """The server that readers reach."""
        return self.standby if self.on_standby and self.standby is not None else self.primary

    def route(self, *, to_standby: bool) -> None:
        """Lead readers there from now on; what they are connected to is cut."""
        left = self.read
        self.on_standby = to_standby and self.standby is not None
        self.to_postgres.lead_to(self.read.port)
        if left is not self.read:
            with suppress(Exception):  # it may be gone
                end_readers(left)

    def unlink(self) -> None:
        """The standby gets nothing more."""
        if self.standby is not None:
            self.linked = False
            self.link.cut()

    def relink(self) -> None:
        if self.standby is not None and not self.linked:
            self.linked = True
            self.link.mend()

    def wait_for_standby(self) -> None:
        """Until it has replayed all there is; it is linked, and not paused."""
        if self.standby is None:
            return
        self.primary.execute("SELECT pg_current_xact_id()")  # commits, and so flushes all there is
        goal = self.primary.fetch_value("SELECT pg_current_wal_flush_lsn()::text")
        query = f"SELECT pg_last_wal_replay_lsn() >= '{goal}'::pg_lsn"
        standby = self.standby
        try:
            wait_until(lambda: standby.fetch_value(query), "the standby catches up", 40)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {standby.log[-3000:]}") from None

    def fail_over(self) -> bool:
        """The primary dies and the standby takes over; False where there is none."""
        if self.standby is None:
            return False
        if self.linked:
            self.standby.execute("SELECT pg_wal_replay_resume()")
            self.wait_for_standby()
        self.primary.kill()
        self.standby.execute("SELECT pg_promote()")
        self.primary, self.standby = self.standby, None
        self.on_standby, self.linked = False, True
        self.to_postgres.lead_to(self.primary.port)
        return True


def end_readers(server: NemesisServer) -> None:
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND application_name = 'lykke'"
    )
