"""nginx before a bridge, with the lines that docs/serve.md gives."""

import os
import re
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.tls import Authority

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
_BINARY = shutil.which("nginx", path=_PATH)
needs_nginx = pytest.mark.skipif(_BINARY is None, reason="nginx is not installed")
NAME = "audit.example.com"
PATIENCE = "1m"
_PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
_AROUND = """
{account}
daemon off;
pid {folder}/pid;
error_log stderr;
{main}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


def documented_lines() -> tuple[str, str]:
    """Those for the top of nginx.conf, and those for a site."""
    main, site = re.findall(r"^```nginx\n(.*?)^```$", _PAGE.read_text("utf-8"), re.M | re.S)
    return main, site


class Nginx(Server):
    """Passes all on to `bridge`, a port of this machine; TLS for NAME as `authority` signs it.

    After a reload connections of before end within `patience`.
    """

    _last = int(signal.SIGTERM)  # at once; killed for good it would leave its workers

    def __init__(self, bridge: int, authority: Authority, *, patience: str = PATIENCE) -> None:
        super().__init__("nginx")
        self._patience = patience
        self._bridge = bridge
        self._identity = authority.sign(NAME)

    def reload(self) -> None:
        """Read the configuration again: new workers take what comes from now on."""
        os.kill(self.pid, signal.SIGHUP)

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        main, site = documented_lines()
        assert PATIENCE in main
        main = main.replace(PATIENCE, self._patience)
        places = {
            "127.0.0.1:8000": f"127.0.0.1:{self._bridge}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/audit.pem": str(self._identity.certificate),
            "/etc/ssl/audit.key": str(self._identity.key),
        }
        for documented, ours in places.items():
            assert site.count(documented) == 1, documented
            site = site.replace(documented, ours)
        account = "user root;" if os.geteuid() == 0 else ""
        settings = self.folder / "settings"
        settings.write_text(
            _AROUND.format(account=account, folder=self.folder, main=main, http=site)
        )
        return [str(_BINARY), "-c", str(settings), "-e", "stderr"], {}

    def _answers(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return (self.folder / "pid").exists()
