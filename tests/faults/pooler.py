"""PgBouncer before a PostgreSQL server."""

import os
import shutil
from typing import Any, Literal

import asyncpg
import pytest

from tests.servers import ADMIN_PASSWORD, READER_PASSWORD, PostgresServer, Server, run_apart

Mode = Literal["session", "transaction"]
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
_BINARY = shutil.which("pgbouncer", path=_PATH)
needs_pgbouncer = pytest.mark.skipif(_BINARY is None, reason="pgbouncer is not installed")
_SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 100
server_login_retry = 0.1
"""


class PgBouncer(Server):
    """Gives `size` connections to `server` to whoever comes, for a session or a transaction."""

    def __init__(self, server: PostgresServer, mode: Mode, *, size: int = 2) -> None:
        super().__init__("pool", server.folder.parent)
        self._server, self._mode, self._size = server, mode, size
        users = (("postgres", ADMIN_PASSWORD), ("reader", READER_PASSWORD))
        lines = [f'"{name}" "{password}"\n' for name, password in users]
        (self.folder / "users").write_text("".join(lines))

    def url(self, database: str) -> str:
        """For the role that may only read."""
        return f"postgresql://reader:{READER_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        settings = self.folder / "settings"
        settings.write_text(
            _SETTINGS.format(
                server=self._server.port,
                port=port,
                folder=self.folder,
                mode=self._mode,
                size=self._size,
            )
        )
        self._server._give_away(self.folder)
        return [str(_BINARY), str(settings)], self._server._as_user

    def _answers(self, port: int) -> bool:
        async def connect() -> bool:
            try:
                connection = await asyncpg.connect(
                    f"postgresql://reader:{READER_PASSWORD}@127.0.0.1:{port}/postgres", timeout=5
                )
            except (OSError, asyncpg.PostgresError, TimeoutError):
                return False
            await connection.close()
            return True

        return run_apart(connect)
