"""Carries out a plan on real servers, and records what there is to judge."""

import asyncio
import gzip
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import asyncpg
import msgspec
import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.nemesis import oracle
from tests.nemesis.client import INEXACT, TOKEN, BridgeClient, Place
from tests.nemesis.cluster import CONFLICT, Cluster, Link, NemesisServer, end_readers
from tests.nemesis.oracle import Consumer, Fact, Line, Run, Violation
from tests.nemesis.oracle import World as Truth
from tests.nemesis.plan import (
    Alter,
    AnyStep,
    Attach,
    Clock,
    Close,
    Expect,
    File,
    Fill,
    Flow,
    Forge,
    Freeze,
    Heal,
    LoseState,
    Net,
    Open,
    Plan,
    Postgres,
    Reader,
    Redis,
    SendLate,
    Sent,
    Signal,
    Stall,
    Start,
    Thaw,
    Via,
    Wait,
    Write,
)
from tests.nemesis.process import ReaderProcess
from tests.servers import RedisServer, free_port

READY = 25.0  # seconds for a reader to begin, on a busy machine
CATCH_UP = 40.0  # seconds to print what is owed, once everything is well again
END = 25.0  # seconds to end when asked to, or when there is no more to do
SILENT = 65.0  # seconds more where a connection went silent: a statement may take so long
MUCH_WORK = 2.0  # seconds of a processor in END that show that it does not hang
MOST_WORK = 60.0  # seconds of a processor that nothing needs
PATIENCE = 6.0  # seconds that a step waits for a backfill while a server is away
HARM = 15.0  # seconds that a reader may keep the application waiting
AT_ONCE = Retry(NoBackoff(), 0)
FOLLOWS = "following auditlog:"  # what a tail says once it is subscribed
SERVES = "serving http"  # what a bridge says
ROTATE = "8K"
REPLAY_RATE, REPLAY_SECONDS = 200, 3  # entries a second at least; for all of them at most
DISK = 64 << 20  # bytes
HEALTH = "1s"

_PART = re.compile(r"(\.\d+|\.\d{8}T\d{6}Z-\d+(\.gz)?)?")
_INSERT = """
    INSERT INTO audit_logs (id, user_id, activity_type, occurred_at, meta)
    VALUES ($1, $2, $3, $4, $5)
"""
_FILL = """
    INSERT INTO {table} (id, user_id, activity_type, occurred_at, meta)
    SELECT gen_random_uuid(), $1, 'FILLED', $2::timestamp - n * interval '1 millisecond',
        jsonb_build_object('n', $4 + n, 'pad', repeat('x', $5))
    FROM generate_series(1, $3::int) n
    RETURNING id::text, occurred_at, (meta->>'n')::int
"""


_APART = """
    CREATE TABLE {table} (LIKE audit_logs INCLUDING ALL);
    GRANT SELECT ON {table} TO reader
"""
_APART_ROWS = "SELECT id::text, occurred_at, (meta->>'n')::int FROM {table}"


class Servers:
    """What outlives a plan: a Redis, a PostgreSQL, and the template of those that do not."""

    def __init__(self, template: NemesisServer) -> None:
        self.template = template
        self._stack = ExitStack()
        self._redis: RedisServer | None = None
        self._postgres: NemesisServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def redis(self) -> RedisServer:
        if self._redis is None:
            self._redis = self._stack.enter_context(RedisServer())
        return self._redis

    def postgres(self) -> NemesisServer:
        if self._postgres is None:
            self._postgres = self._stack.enter_context(NemesisServer(self.template))
        return self._postgres

    def renew(self) -> None:
        """After a plan that broke off: nothing of it stays."""
        self._stack.close()
        self._redis = self._postgres = None


def attack(plan: Plan, servers: Servers, log: Callable[[str], None]) -> list[Violation]:
    """Carry it out; returns what was not as promised."""
    shared = servers.postgres() if plan.cluster == "shared" else None
    with (
        Cluster(
            servers.template, shared, servers.redis(), with_standby=plan.cluster == "pair"
        ) as cluster,
        tempfile.TemporaryDirectory(prefix="nemesis-") as folder,
        asyncio.Runner() as runner,
        Attack(plan, cluster, Path(folder), runner, log) as under_way,
    ):
        return under_way.run()


class _Session(msgspec.Struct):
    """A transaction that is open, or prepared."""

    connection: Any
    facts: list[Fact]
    elsewhere: bool
    prepared: str | None = None


class _Held(msgspec.Struct):
    """A reader of the plan, and its process if it has one."""

    consumer: Consumer
    folder: Path
    process: ReaderProcess | BridgeClient | None = None
    run: Run | None = None
    stalled_at: float | None = None
    frozen_at: float | None = None
    disk: Path | None = None
    is_full: bool = False
    link: Link | None = None
    """Where clients find a bridge."""
    port: int = 0
    """Of the bridge itself."""
    is_cut_off: bool = False
    place: Place = msgspec.field(default_factory=Place)
    """Of a client that is no process."""

    @property
    def reader(self) -> Reader:
        return self.consumer.reader

    @property
    def is_running(self) -> bool:
        return self.process is not None

    @property
    def is_serving(self) -> bool:
        """Of a bridge: whether clients reach it."""
        is_ready = self.run is not None and self.run.ready is not None
        return is_ready and self.frozen_at is None and not self.is_cut_off


class Attack:
    """One plan under way."""

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        folder: Path,
        runner: asyncio.Runner,
        log: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._folder = folder
        self._runner = runner
        self._log = log
        self._user = uuid.uuid4()
        self._truth = Truth()
        self._held: dict[str, _Held] = {}
        self._sessions: dict[str, _Session] = {}
        self._late: list[Fact] = []
        self._connection: Any = None
        self._n = 0
        self._apart: list[str] = []  # tables that are not attached yet
        self._redis_faults: set[str] = set()
        self._postgres_faults: set[str] = set()
        self._loose = False
        self._cursor_key = secrets.token_hex(32)
        self._may_be_cut = False  # a connection to a bridge, at any time
        self._allowance = 0.0  # seconds more for what waits on a silent connection
        self._publisher = redis.Redis(
            port=cluster.redis.port, socket_timeout=0.3, socket_connect_timeout=0.3, retry=AT_ONCE
        )

    def __enter__(self) -> Self:
        for reader in self._plan.readers:
            folder = self._folder / reader.name
            folder.mkdir()
            consumer = Consumer(reader, is_rival=reader.file_of is not None)
            held = self._held[reader.name] = _Held(consumer, folder)
            if reader.kind == "bridge":
                held.port = free_port()
                held.link = Link(held.port).__enter__()
        for step in self._plan.steps:
            if isinstance(step, File) and step.what == "full":
                self._mount(self._held[step.reader])
        return self

    def __exit__(self, *exc_info: object) -> None:
        for held in self._held.values():
            if held.process is not None:
                held.process.close()
            if held.link is not None:
                held.link.__exit__()
        self._heal_redis()
        self._forget_sessions()
        with suppress(Exception):
            self._clean_database()
        for held in self._held.values():
            if held.disk is not None:
                subprocess.run(["umount", "-l", held.disk], stderr=subprocess.DEVNULL)
        self._publisher.close()

    def run(self) -> list[Violation]:
        for number, step in enumerate(self._plan.steps, 1):
            started = time.monotonic()
            self._do(step)
            self._log(f"{number:3} {time.monotonic() - started:5.1f} s  {step}")
            self._look_after()
        started = time.monotonic()
        self._settle()
        self._log(f"settled in {time.monotonic() - started:.1f} s")
        for name, held in self._held.items():
            for run in held.consumer.runs:
                self._log(f"{name}: {run.command}, {run.signal or run.status}: {run.stderr}")
        return oracle.judge(self._truth, [held.consumer for held in self._held.values()])

    # Steps

    def _do(self, step: AnyStep) -> None:
        match step:
            case Write():
                self._write(step)
            case Fill():
                self._fill(step)
            case Attach():
                self._attach()
            case Open():
                self._open(step)
            case Close():
                self._close(step)
            case Forge(what):
                self._forge(what)
            case SendLate():
                self._send_late()
            case Wait(seconds):
                time.sleep(seconds)
            case Redis(fault):
                self._break_redis(fault)
            case Postgres(fault):
                self._break_postgres(fault)
            case Heal("redis"):
                self._heal_redis()
            case Heal():
                self._heal_postgres()
            case Alter():
                self._alter()
            case Expect():
                self._expect(step)
            case Start():
                self._start(step)
            case _:
                self._do_to_reader(step, self._held[step.reader])

    def _do_to_reader(self, step: AnyStep, held: _Held) -> None:
        process = held.process
        match step:
            case LoseState() if process is None:
                shutil.rmtree(held.folder / "state", ignore_errors=True)
                held.consumer.state_lost.append(time.monotonic())
            case Clock(_, offset):
                (held.folder / "clock").write_text(str(offset))
            case File(_, what):
                self._file(held, what)
            case Net() if held.link is not None:
                self._break_net(step, held, held.link)
            case Signal(_, name) if process is not None:
                self._signal(held, name)
            case Freeze() if process is not None and held.frozen_at is None:
                process.send(signal.SIGSTOP)
                held.frozen_at = time.monotonic()
                self._told_of_bridge(held)
            case Thaw() if process is not None:
                self._thaw(held)
            case Stall() if process is not None and held.stalled_at is None:
                process.stall()
                held.stalled_at = time.monotonic()
            case Flow(_, slowly) if process is not None:
                process.flow(slowly=slowly)
                if not slowly:
                    held.stalled_at = None

    # The application

    def _call(self, make: Any, timeout: float = 10.0) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(timeout):
                return await make()

        return self._runner.run(bounded())

    async def _writer(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._cluster.primary.connect(self._cluster.database)
        if self._loose:
            await self._connection.execute("SET synchronous_commit = off")
        return self._connection

    def _new_facts(self, rows: int, age: int) -> list[Fact]:
        now = datetime.now(UTC).replace(microsecond=0) + timedelta(microseconds=self._n)
        facts = []
        for _ in range(rows):
            self._n += 1
            moment = now - timedelta(seconds=age) + timedelta(microseconds=self._n)
            facts.append(Fact(str(uuid.uuid4()), moment, self._n))
        self._truth.facts |= {fact.id: fact for fact in facts}
        return facts

    @property
    def _can_write(self) -> bool:
        return not self._postgres_faults & {"stop", "kill", "freeze"}

    def _row(self, fact: Fact) -> tuple[Any, ...]:
        meta = f'{{"n": {fact.n}}}'
        return (uuid.UUID(fact.id), self._user, "WRITTEN", fact.occurred.replace(tzinfo=None), meta)

    def _write(self, step: Write) -> None:
        for _ in range(step.times):
            facts = self._new_facts(step.rows, step.age)
            if not self._can_write:
                continue
            try:
                committed = self._call(lambda facts=facts: self._transaction(step, facts))
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._log(f"    not written: {error!r}")
                self._drop_connection()
                continue
            self._broadcast(committed, step.sent)

    async def _transaction(self, step: Write, facts: list[Fact]) -> list[Fact]:
        connection = await self._writer()
        rows = [self._row(fact) for fact in facts]
        meant = facts
        transaction = connection.transaction()
        await transaction.start()
        if step.shape == "copy":
            await connection.copy_records_to_table(
                "audit_logs",
                records=rows,
                columns=["id", "user_id", "activity_type", "occurred_at", "meta"],
            )
        elif step.shape in ("savepoint", "half_rolled_back"):
            for number, row in enumerate(rows):
                savepoint = connection.transaction()
                await savepoint.start()
                await connection.execute(_INSERT, *row)
                if step.shape == "half_rolled_back" and number % 2:
                    await savepoint.rollback()
                else:
                    await savepoint.commit()
            if step.shape == "half_rolled_back":
                meant = facts[::2]
        else:
            await connection.executemany(_INSERT, rows)
        if step.shape == "rollback":
            await transaction.rollback()
            return facts if step.sent == "doubled" else []  # told of, though it never was
        self._began(meant)
        if step.shape == "prepared":
            name = f"p{uuid.uuid4().hex}"
            await connection.execute(f"PREPARE TRANSACTION '{name}'")
            self._drop_connection()
            connection = await self._writer()
            await connection.execute(f"COMMIT PREPARED '{name}'")
        else:
            await transaction.commit()
        self._committed(meant)
        return meant

    def _began(self, facts: list[Fact]) -> None:
        now = time.monotonic()
        for fact in facts:
            fact.begun = now

    def _committed(self, facts: list[Fact]) -> None:
        now = time.monotonic()
        for fact in facts:
            fact.committed = now

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _fill(self, step: Fill) -> None:
        if not self._can_write:
            return
        latest = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=step.age)

        async def fill() -> list[Any]:
            connection = await self._writer()
            arguments = (self._user, latest, step.rows, self._n, step.pad)
            table = f"apart_{self._n}" if step.apart else "audit_logs"
            if step.apart:
                await connection.execute(_APART.format(table=table))
                self._apart.append(table)
            records = await connection.fetch(_FILL.format(table=table), *arguments)
            return [] if step.apart else list(records)

        if self._come_by(fill, "filled"):
            self._n += step.rows

    def _attach(self) -> None:
        if not self._can_write:
            return

        async def attach() -> list[Any]:
            connection = await self._writer()
            records: list[Any] = []
            for table in self._apart:
                await connection.execute(f"ALTER TABLE IF EXISTS {table} INHERIT audit_logs")
                if await connection.fetchval("SELECT to_regclass($1)::text", table):
                    records += await connection.fetch(_APART_ROWS.format(table=table))
            return records

        if self._come_by(attach, "attached"):
            self._apart.clear()

    def _come_by(self, work: Callable[[], Awaitable[list[Any]]], what: str) -> bool:
        """Note the rows that came into the table by `work`; False where it failed."""
        begun = time.monotonic()
        try:
            records = self._call(work, 30)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._log(f"    not {what}: {error!r}")
            self._drop_connection()
            return False
        now = time.monotonic()
        for id, occurred, n in records:
            moment = occurred.replace(tzinfo=UTC)
            self._truth.facts[id] = Fact(id, moment, n, begun=begun, committed=now)
        return True

    def _open(self, step: Open) -> None:
        if not self._can_write or step.name in self._sessions:
            return
        facts = [] if step.elsewhere else self._new_facts(step.rows, step.age)

        async def open() -> Any:
            database = "postgres" if step.elsewhere else self._cluster.database
            connection = await self._cluster.primary.connect(database)
            await connection.execute("BEGIN")
            await connection.fetchval("SELECT pg_current_xact_id()")
            for fact in facts:
                if step.savepoint:
                    await connection.execute("SAVEPOINT one")
                await connection.execute(_INSERT, *self._row(fact))
                if step.savepoint:
                    await connection.execute("RELEASE SAVEPOINT one")
            return connection

        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._sessions[step.name] = _Session(self._call(open), facts, step.elsewhere)

    def _close(self, step: Close) -> None:
        session = self._sessions.get(step.name)
        if session is None or not self._can_write:
            return
        name = session.prepared or f"p{uuid.uuid4().hex}"

        async def close() -> None:
            if session.prepared is not None:
                database = "postgres" if session.elsewhere else self._cluster.database
                other = await self._cluster.primary.connect(database)
                try:
                    await other.execute(f"{step.how.upper()} PREPARED '{name}'")
                finally:
                    await other.close()
            elif step.how == "prepare":
                await session.connection.execute(f"PREPARE TRANSACTION '{name}'")
                session.connection.terminate()
            else:
                await session.connection.execute(step.how.upper())
                session.connection.terminate()

        if step.how == "prepare" and session.prepared is not None:
            return
        if step.how == "commit":
            self._began(session.facts)
        try:
            self._call(close)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._log(f"    not closed: {error!r}")
            session.connection.terminate()
            del self._sessions[step.name]
            return
        if step.how == "prepare":
            session.prepared = name
            return
        del self._sessions[step.name]
        if step.how == "commit":
            self._committed(session.facts)
            self._broadcast(session.facts, step.sent)

    def _broadcast(self, facts: list[Fact], sent: Sent) -> None:
        if sent == "late":
            self._late += facts
        for _ in range({"sent": 1, "doubled": 2}.get(sent, 0)):
            for fact in facts:
                self._publish(fact)

    def _publish(self, fact: Fact) -> None:
        fact.published.append(time.monotonic())
        self._send(
            {
                "id": fact.id,
                "user_id": str(self._user),
                "activity_type": "WRITTEN",
                "occurred_at": fact.occurred.isoformat(),
                "entity_id": None,
                "entity_type": None,
                "meta": {"n": fact.n},
            }
        )

    def _send(self, message: object) -> None:
        data = message if isinstance(message, bytes) else orjson.dumps(message)
        with suppress(redis.RedisError):
            self._publisher.publish(f"auditlog:{self._user}", data)

    def _send_late(self) -> None:
        late, self._late = self._late, []
        for fact in late:
            self._publish(fact)

    def _forge(self, what: str) -> None:
        if what == "entry":
            self._publish(self._new_facts(1, 0)[0])
        elif what == "known_id":
            known = [fact for fact in self._truth.facts.values() if fact.committed is not None]
            if known:
                self._publish(known[-1])
        elif what == "garbage":
            self._send(b'{"id": "\xff\x00')
        else:
            self._send({"type": "acknowledgment", "event_id": "x"})

    def _alter(self) -> None:
        """ALTER TABLE, then a write behind it, while readers do what they do."""
        mine = [s for s in self._sessions.values() if not s.elsewhere]
        if mine or self._postgres_faults or self._cluster.on_standby:
            return
        facts = self._new_facts(1, 0)

        async def alter() -> None:
            connection = await self._writer()
            await connection.execute(f"SET lock_timeout = '{int(HARM * 1000)}ms'")
            await connection.execute(f"ALTER TABLE audit_logs ADD COLUMN extra_{self._n} text")
            await connection.execute("SET lock_timeout = 0")
            await self._transaction(Write(), facts)

        started = time.monotonic()
        try:
            self._call(alter, HARM + 10)
        except (asyncpg.LockNotAvailableError, TimeoutError):
            held = time.monotonic() - started
            text = f"ALTER TABLE did not get its lock in {held:.0f} s behind a reader"
            self._truth.harm.append(text)
            self._drop_connection()

    # The servers

    def _break_redis(self, fault: str) -> None:
        server = self._cluster.redis
        if fault == "cut":
            with suppress(redis.RedisError):
                self._publisher.client_kill_filter(_type="pubsub")
            self._told_of_fault()
            return
        if self._redis_faults:
            return
        if fault == "kill":
            server.kill()
        elif fault == "freeze":
            server.freeze()
        elif fault == "partition":
            self._cluster.to_redis.swallow()
        elif fault == "full":
            self._publisher.config_set("maxmemory", "1mb")
        self._redis_faults.add(fault)
        self._told_of_fault()

    def _heal_redis(self) -> None:
        faults, self._redis_faults = self._redis_faults, set()
        server = self._cluster.redis
        if "kill" in faults:
            server.start()
        if "freeze" in faults:
            server.thaw()
        if "partition" in faults:
            self._cluster.to_redis.restore()
        if "full" in faults:
            self._publisher.config_set("maxmemory", "0")

    def _break_postgres(self, fault: str) -> None:
        cluster, server = self._cluster, self._cluster.primary
        gone = bool(self._postgres_faults & {"stop", "kill", "freeze"})
        if gone:
            return
        if fault in ("terminate", "to_standby", "to_primary"):
            if fault == "terminate":
                end_readers(cluster.read)
            else:
                cluster.route(to_standby=fault == "to_standby")
            self._told_of_fault(database=True)
        elif fault == "lag":
            if cluster.standby is not None and "lag" not in self._postgres_faults:
                cluster.standby.execute("SELECT pg_wal_replay_pause()")
                self._postgres_faults.add("lag")
        elif fault == "conflict":
            cluster.primary.execute(CONFLICT, cluster.database)
            cluster.primary.execute("VACUUM removed", cluster.database)
            self._told_of_fault(database=True)
        elif fault == "unlink":
            cluster.unlink()
        elif fault == "failover":
            if cluster.standby is not None:
                self._forget_sessions()
                self._drop_connection()
                cluster.fail_over()
                self._postgres_faults.discard("lag")
                self._loose = False
                self._doubt()
        elif fault == "loosen":
            if not self._loose:
                server.stop_wal_writer()
                self._loose = True
        elif fault in ("crash", "backup", "restore"):
            if fault != "crash" and self._plan.cluster != "own":
                return
            self._forget_sessions()
            self._drop_connection()
            {"crash": server.restart, "backup": server.backup, "restore": server.restore}[fault]()
            self._loose = False
            self._doubt()
        else:
            self._forget_sessions()
            self._drop_connection()
            self._loose = self._loose and fault in ("freeze", "partition")
            if fault == "partition":
                cluster.to_postgres.swallow()
                self._allowance = SILENT
            else:
                getattr(server, fault)()
            self._postgres_faults.add(fault)
            self._told_of_fault(database=True)

    def _heal_postgres(self) -> None:
        cluster = self._cluster
        faults, self._postgres_faults = self._postgres_faults, set()
        if faults & {"stop", "kill"}:
            cluster.primary.start()
            self._doubt()
        if "freeze" in faults:
            cluster.primary.thaw()
        if "partition" in faults:
            cluster.to_postgres.restore()
        if cluster.standby is not None:
            cluster.relink()
            cluster.standby.execute("SELECT pg_wal_replay_resume()")
            cluster.wait_for_standby()

    def _break_net(self, step: Net, held: _Held, link: Link) -> None:
        if step.fault == "cut":
            link.cut_at(step.after)
            self._may_be_cut = True
        elif step.fault == "partition":
            link.swallow()
            held.is_cut_off = True
        else:  # what was swallowed is gone: no connection outlives it
            link.cut()
            link.restore()
            link.mend()
            held.is_cut_off = False
        self._told_of_bridge(held)

    def _told_of_bridge(self, held: _Held) -> None:
        """To its clients it is a server that has gone."""
        for other in self._held.values() if held.reader.kind == "bridge" else ():
            if other.run is not None and other.reader.via is not None:
                other.run.faults = other.run.database_faults = True

    def _doubt(self) -> None:
        """The server is not what it was: what of the table is gone?"""
        table = self._read_table()
        now = time.monotonic()
        self._truth.doubts.append(now)
        for fact in self._truth.facts.values():
            if fact.begun is not None and fact.gone is None and fact.id not in table:
                fact.gone = now
        self._told_of_fault(database=True)

    def _told_of_fault(self, *, database: bool = False) -> None:
        for held in self._held.values():
            if held.run is not None and held.is_running:
                held.run.faults = True
                held.run.database_faults = held.run.database_faults or database

    def _read_table(self) -> set[str]:
        async def read() -> set[str]:
            connection = await self._cluster.primary.connect(self._cluster.database)
            try:
                rows = await connection.fetch("SELECT id::text FROM audit_logs")
                return {record[0] for record in rows}
            finally:
                await connection.close()

        table: set[str] = self._call(read, 30)
        return table

    def _forget_sessions(self) -> None:
        """Connections to a server that goes."""
        for name, session in list(self._sessions.items()):
            if session.prepared is None:
                session.connection.terminate()
                del self._sessions[name]

    def _clean_database(self) -> None:
        """Leave nothing in a server that is used again."""
        if self._plan.cluster != "shared":
            return
        self._heal_postgres()
        self._drop_connection()
        server, database = self._cluster.primary, self._cluster.database
        names = server.fetch_value("SELECT array_agg(gid) FROM pg_prepared_xacts")
        for name in names or ():
            where = server.fetch_value(
                f"SELECT database FROM pg_prepared_xacts WHERE gid = '{name}'"  # noqa: S608
            )
            server.execute(f"ROLLBACK PREPARED '{name}'", where)
        if self._loose:
            server.restart()
        server.drop_database(database)

    # Readers

    @property
    def _all_well(self) -> bool:
        return self._servers_well and all(
            held.is_serving for held in self._held.values() if held.reader.kind == "bridge"
        )

    @property
    def _servers_well(self) -> bool:
        return not self._redis_faults and not self._postgres_faults and self._cluster.linked

    def _start(self, step: Start) -> None:
        held = self._held[step.reader]
        if held.is_running or held.is_full:
            return
        if held.reader.file_of is not None:
            first = self._held[held.reader.file_of]
            if not first.is_running:
                return  # a rival of nobody
            held.consumer.contested = first.consumer.contested = True
        run, words = self._command(held, step)
        held.run = run
        held.consumer.runs.append(run)
        held.consumer.respelled = held.consumer.respelled or step.spelling != "plain"
        if held.reader.kind == "replay":
            self._truth.replays.append(time.monotonic())
        if held.reader.via is not None and held.reader.via != "tail":
            held.process = self._client(held, held.reader.via, run, step)
        else:
            held.process = ReaderProcess(
                words,
                self._environment(held, step),
                narrow=held.reader.narrow,
                stalled=step.stalled,
                clock=held.folder / "clock" if held.reader.own_clock else None,
                on_uvloop=held.reader.on_uvloop,
            )
        run.spawned = held.process.spawned
        held.stalled_at = time.monotonic() if step.stalled else None
        if step.stalled and run.command == "backfill":
            return
        if run.command == "backfill":
            self._await_end(held)
        else:
            self._await_ready(held)

    def _client(self, held: _Held, via: Via, run: Run, step: Start) -> BridgeClient:
        begin: dict[str, object] = {}
        if run.last:
            begin = {"last": run.last}
        elif run.since is not None:
            begin = {"since": run.since.isoformat()}
        return BridgeClient(
            via,
            str(self._user),
            held.place,
            [each.link.port for each in self._held.values() if each.link is not None],
            begin,
            follows=FOLLOWS,
            until_caught_up=run.command == "backfill",
            narrow=held.reader.narrow,
            stalled=step.stalled,
        )

    def _command(self, held: _Held, step: Start) -> tuple[Run, list[str]]:
        """The run, and the words of its command line."""
        reader, user = held.reader, str(self._user)
        earlier = held.consumer.runs
        now = datetime.now(UTC)
        since = None if reader.since is None else self._since(held, now)
        by = step.by if reader.kind in ("stream", "file") else "backfill"
        if reader.kind == "bridge" or reader.via == "tail":
            by = "tail"
        run = Run(by, time.monotonic())
        run.faults = not (self._servers_well if reader.kind == "bridge" else self._all_well)
        run.faults |= reader.via is not None and self._may_be_cut
        run.database_faults = bool(self._postgres_faults)
        run.behind = self._cluster.on_standby
        first = not any(r.ready is not None for r in earlier)
        if reader.kind == "bridge":
            words = ["serve", "--port", str(held.port), "--hostname", Link.HOST]
            words += ["--workers", str(reader.workers)]
            words += ["--drain", "1s", "--reconcile", reader.reconcile, "--health-interval", HEALTH]
            return run, words
        words = [by, user]
        begins = [] if since is None else ["--since", since.isoformat()]
        if reader.kind == "range":
            run.origin, run.since = True, since
            return run, [*words, *begins, "-o", "ndjson"]
        if reader.kind in ("file", "replay"):
            lost = held.consumer.state_lost
            run.origin, run.since = first or bool(lost and lost[-1] > earlier[-1].spawned), since
            words += [*begins, "--to-file", str(self._file_of(held))]
            words += ["--rotate", ROTATE, "--compress"] if reader.rotates else []
            rate = max(REPLAY_RATE, len(self._truth.facts) // REPLAY_SECONDS)
            words += ["--replay", "--rate", str(rate)] if reader.kind == "replay" else []
        elif by == "backfill":
            run.origin = first if reader.via is not None else not earlier
            run.since = now - oracle.FIRST_USE
        elif first:
            run.origin, run.since, run.last = True, since, reader.last or 0
            words += begins if reader.last is None else ["-n", str(reader.last)]
        else:
            words.append("--resume")
        if reader.via == "tail":
            words += ["--from", f"http://127.0.0.1:{self._first_link.port}"]
        elif by == "tail":
            words += ["--reconcile", reader.reconcile, "--health-interval", HEALTH]
        return run, words

    @property
    def _first_link(self) -> Link:
        return next(held.link for held in self._held.values() if held.link is not None)

    def _since(self, held: _Held, now: datetime) -> datetime:
        """The same at every start."""
        path = held.folder / "since"
        if not path.exists():
            path.write_text((now - timedelta(seconds=held.reader.since or 0)).isoformat())
        return datetime.fromisoformat(path.read_text())

    def _file_of(self, held: _Held) -> Path:
        if held.reader.file_of is not None:
            return self._file_of(self._held[held.reader.file_of])
        return (held.disk or held.folder) / "audit.ndjson"

    def _environment(self, held: _Held, step: Start) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LYKKE_", "PG", "XDG_", "REDIS_", "DATABASE_"))
        }
        folders = {
            f"XDG_{kind.upper()}_HOME": str(held.folder / kind)
            for kind in ("state", "config", "data", "cache")
        }
        return {
            **kept,
            **folders,
            "HOME": str(held.folder),
            **self._servers(held.reader, step),
        }

    def _servers(self, reader: Reader, step: Start) -> dict[str, str]:
        if reader.via is not None:
            return {"LYKKE_TOKEN": TOKEN}
        urls = {
            "REDIS_URL": self._cluster.redis_url,
            "DATABASE_URL": self._cluster.database_url(step.spelling),
        }
        if reader.kind == "bridge":
            urls |= {"LYKKE_SERVE_TOKEN": TOKEN, "LYKKE_CURSOR_KEY": self._cursor_key}
        return urls

    def _await_ready(self, held: _Held) -> None:
        is_well = self._servers_well if held.reader.kind == "bridge" else self._all_well
        deadline = time.monotonic() + (READY if is_well else 1.0)
        while time.monotonic() < deadline:
            self._look_after()
            if held.run is None or held.run.ready is not None or held.stalled_at is not None:
                return
            time.sleep(0.02)
        if is_well and held.run is not None and not held.run.faults:
            held.run.hung = f"did not begin within {READY:.0f} s"

    def _await_end(self, held: _Held, *, settled: bool = False) -> None:
        process, run = held.process, held.run
        if process is None or run is None:
            return
        patience = END + self._allowance if self._all_well or settled else PATIENCE
        ended, worked = process.wait(patience), 0.0
        while not ended and self._all_well and process.worked - worked > MUCH_WORK:
            worked = process.worked  # on a busy machine there is much to do for it, and no hang
            ended = process.wait(patience) or worked > MOST_WORK
        if process.status is not None:
            self._ended(held)
        elif settled or (self._all_well and not run.faults):
            run.hung = f"did not end within {patience:.0f} s"
            process.close()
            self._ended(held)

    def _look_after(self) -> None:
        """Note who follows by now, and who has ended."""
        for held in self._held.values():
            process, run = held.process, held.run
            if process is None or run is None:
                continue
            if run.command == "tail" and run.ready is None:
                run.ready = process.said_at(_first_word(held))
            if process.status is not None and (held.stalled_at is None):
                process.wait(5)
                self._ended(held)

    def _ended(self, held: _Held) -> None:
        process, run = held.process, held.run
        assert process is not None and run is not None
        held.process = held.run = None
        held.stalled_at = held.frozen_at = None
        run.spawned, run.ended, run.status = process.spawned, time.monotonic(), process.status
        run.stderr = process.stderr
        if run.command == "tail" and run.ready is None:
            run.ready = process.said_at(_first_word(held))
        if run.command == "backfill" and run.status == 0:
            run.ready = run.ended
        run.disk_full = run.disk_full or held.is_full
        run.lines = list(_entries(process.lines))
        if INEXACT in run.stderr and not self._truth.doubts:
            held.consumer.failures.append("its place did not fit, though nothing was amiss")
        if held.reader.kind == "stream" and oracle.NO_PLACE.search(run.stderr):
            run.origin = True
            if run.command == "tail":
                run.since = None
        process.close()

    def _signal(self, held: _Held, name: str) -> None:
        process, run = held.process, held.run
        assert process is not None and run is not None
        if name != "KILL":
            self._thaw(held)
            process.flow()
        moments = (held.frozen_at, held.stalled_at, time.monotonic())
        process.send(getattr(signal, f"SIG{name}"))
        run.signal = name
        if not isinstance(process, BridgeClient):  # that keeps its place with every frame
            run.unsure = min(moment for moment in moments if moment is not None)
        self._told_of_bridge(held)
        if not process.wait(END):
            run.hung = f"did not end within {END:.0f} s of SIG{name}"
            process.close()
        self._ended(held)

    def _thaw(self, held: _Held) -> None:
        if held.process is not None and held.frozen_at is not None:
            held.process.send(signal.SIGCONT)
            held.frozen_at = None

    # Files

    def _mount(self, held: _Held) -> None:
        """A disk of its own, where that may be had."""
        if held.disk is not None or os.geteuid() != 0 or held.reader.file_of is not None:
            return
        disk = held.folder / "disk"
        disk.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk],
            stderr=subprocess.DEVNULL,
        )
        if made.returncode == 0:
            held.disk = disk

    def _file(self, held: _Held, what: str) -> None:
        path = self._file_of(held)
        if what in ("move", "copytruncate"):
            if path.exists():
                with self._standing_still(path):
                    self._rotate(path, what)
        elif what == "full" and not held.is_full:
            self._set_room(held, full=True)
        elif what == "room" and held.is_full:
            self._set_room(held, full=False)

    def _rotate(self, path: Path, what: str) -> None:
        """As logrotate does: the file put aside, or copied and made empty."""
        number = 1
        while (aside := path.with_name(f"{path.name}.{number}")).exists():
            number += 1
        if what == "move":
            path.rename(aside)
        else:
            shutil.copyfile(path, aside)
            os.truncate(path, 0)

    @contextmanager
    def _standing_still(self, path: Path) -> Iterator[None]:
        """copytruncate loses what is written between its two steps; that is not our matter."""
        running = [
            held
            for held in self._held.values()
            if held.process is not None
            and held.frozen_at is None
            and held.reader.kind == "file"
            and self._file_of(held) == path
        ]
        for held in running:
            if held.process is not None:
                held.process.send(signal.SIGSTOP)
        time.sleep(0.05)
        try:
            yield
        finally:
            for held in running:
                if held.process is not None:
                    held.process.send(signal.SIGCONT)

    def _set_room(self, held: _Held, *, full: bool) -> None:
        if held.disk is None:
            self._limit_file(held, full=full)
            return
        used = sum(path.stat().st_blocks * 512 for path in held.disk.rglob("*") if path.is_file())
        size = used + 4096 if full else DISK
        done = subprocess.run(
            ["mount", "-o", f"remount,size={size}", held.disk], stderr=subprocess.DEVNULL
        )
        if done.returncode == 0:
            held.is_full = full
            if held.run is not None:
                held.run.disk_full = True

    def _limit_file(self, held: _Held, *, full: bool) -> None:
        """Where nothing may be mounted: a running reader can make its file no longer."""
        path = self._file_of(held)
        process = held.process
        if isinstance(process, ReaderProcess) and held.run is not None and path.exists():
            limit = path.stat().st_size + 4096 if full else resource.RLIM_INFINITY
            both = (limit, resource.RLIM_INFINITY)
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, both)
            held.run.disk_full = True

    def _read_file(self, held: _Held) -> None:
        consumer, path = held.consumer, self._file_of(held)
        lines: list[Line] = []
        for part in sorted(path.parent.glob(f"{path.name}*")):
            if not _PART.fullmatch(part.name.removeprefix(path.name)):
                continue
            try:
                data = part.read_bytes()
            except FileNotFoundError:  # just now packed, when a tail still runs
                continue
            if part.suffix == ".gz":
                try:
                    data = gzip.decompress(data)
                except (OSError, EOFError) as error:
                    consumer.damage.append(f"{part.name}: {error}")
                    continue
            if zeros := data.count(0):
                consumer.damage.append(f"{part.name} has {zeros} NUL bytes")
            *whole, half = data.split(b"\n")
            if half:
                consumer.damage.append(f"{part.name} ends in half a line")
            for line in whole:
                if not line.startswith(b"{") or not line.endswith(b"}"):
                    consumer.damage.append(f"{part.name} has the line {line[:60]!r}")
                    break
            lines += _entries([(0.0, line) for line in whole])
        consumer.file = lines

    # Expectations

    def _expect(self, step: Expect) -> None:
        """`expect` as a reader of its own, from its start to its end."""
        replaying = any(h.reader.kind == "replay" and h.is_running for h in self._held.values())
        if not self._all_well or self._cluster.on_standby or replaying:
            return
        name = f"expect{len(self._held)}"
        reader = Reader(name, "range")
        folder = self._folder / name
        folder.mkdir()
        held = self._held[name] = _Held(Consumer(reader), folder)
        wanted = ["--none", "--timeout", "2s"] if step.rows == 0 else ["--count", str(step.rows)]
        words = ["expect", str(self._user), *wanted, *(["--timeout", "20s"] if step.rows else [])]
        run = held.run = Run("backfill", time.monotonic())
        held.consumer.runs.append(run)
        environment = self._environment(held, Start(name))
        process = held.process = ReaderProcess(
            words, environment, narrow=False, stalled=False, clock=None
        )
        deadline = time.monotonic() + READY
        while process.said_at("subscribed to") is None and process.status is None:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if step.rows:
            self._write(Write(rows=step.rows, sent=step.sent))
        if not process.wait(20 + END):
            run.hung = "expect did not end"
            process.close()
        self._ended(held)
        wrong = run.status not in (0, None)
        if wrong and self._all_well:
            what = f"of {step.rows} entries" if step.rows else "of none"
            tail = " / ".join(run.stderr.splitlines()[-2:])
            held.consumer.failures.append(f"an expectation {what} ended with {run.status}: {tail}")
            run.status = 0  # said once
        if step.rows == 0:
            for line in run.lines:
                fact = self._truth.facts.get(line.id)
                if fact is None or (fact.committed or run.spawned) < run.spawned:
                    held.consumer.failures.append(f"{line.id} is from before the start")
                    break

    # The end

    def _settle(self) -> None:
        """All is well again: everybody prints what is owed, and ends when asked to."""
        self._heal_redis()
        self._heal_postgres()
        for name in list(self._sessions):
            self._close(Close(name, "commit"))
        self._send_late()
        for held in self._held.values():
            self._thaw(held)
            if held.link is not None:
                self._break_net(Net(held.reader.name, "mend"), held, held.link)
                self._start(Start(held.reader.name))
            if held.process is not None:
                held.process.flow()
                held.stalled_at = None
            if held.is_full:
                self._set_room(held, full=False)
        if self._loose:
            with suppress(Exception):
                self._cluster.primary.thaw()
            self._loose = False
        self._truth.table = self._read_table()
        self._break_redis("cut")  # a full read: what is back-dated and was not broadcast is found
        self._look_after()
        for held in list(self._held.values()):
            if held.run is not None and held.run.command == "backfill":
                self._await_end(held, settled=True)
        for held in self._held.values():
            if held.reader.via == "tail" and held.consumer.runs:
                self._start(Start(held.reader.name))  # unless it runs
        deadline = time.monotonic() + CATCH_UP + self._allowance
        for held in list(self._held.values()):
            self._catch_up(held, deadline)
        for held in list(self._held.values()):
            if held.process is not None and held.reader.kind != "bridge":
                time.sleep(0.1)  # for something that is too much
                self._signal(held, "INT")
        for held in list(self._held.values()):
            self._run_once_more(held)
        for held in self._held.values():
            if held.process is not None:
                self._signal(held, "TERM")
                if held.consumer.runs[-1].status != 0:
                    held.consumer.failures.append("it did not end well when it was told to")
        for held in self._held.values():
            if held.reader.kind in ("file", "replay") and held.reader.file_of is None:
                self._read_file(held)

    def _catch_up(self, held: _Held, deadline: float) -> None:
        """Wait until a tail has printed what it owes."""
        if held.reader.kind not in ("stream", "file"):
            return
        while held.process is not None:
            self._look_after()
            lost = self._missing(held)
            if not lost:
                return
            if time.monotonic() > deadline:
                if held.run is not None:
                    held.consumer.failures.append(
                        f"a tail had not printed {len(lost)} that it owes within "
                        f"{CATCH_UP:.0f} s, such as {lost[0]}"
                    )
                return
            time.sleep(0.1)

    def _missing(self, held: _Held) -> list[str]:
        if held.process is None:
            return []
        if held.reader.kind == "file":
            self._read_file(held)
            printed = [line.id for line in held.consumer.file or ()]
            held.consumer.file = None
            held.consumer.damage.clear()  # a line may be half written just now
        else:
            lives = [run.lines for run in held.consumer.runs[:-1]]
            printed = [line.id for lines in lives for line in lines]
            printed += [line.id for line in _entries(list(held.process.lines))]
        return oracle.missing(self._truth, held.consumer, printed)

    def _run_once_more(self, held: _Held) -> None:
        """A last run finds what the others left, or has them all printed again."""
        if held.reader.kind in ("range", "bridge") or held.reader.via == "tail":
            return
        if not held.consumer.runs or held.consumer.is_rival:
            return
        if not any(run.ready is not None for run in held.consumer.runs):
            return
        self._start(Start(held.reader.name, by="backfill"))


def _first_word(held: _Held) -> str:
    """What it says once it does its work."""
    return SERVES if held.reader.kind == "bridge" else FOLLOWS


def _entries(lines: list[tuple[float, bytes]]) -> Iterator[Line]:
    for at, line in lines:
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(line)
            if isinstance(value, dict) and isinstance(value.get("id"), str) and "user_id" in value:
                meta = value.get("meta")
                yield Line(at, value["id"], meta.get("n") if isinstance(meta, dict) else None)
