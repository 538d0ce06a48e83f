"""`lykke serve` as a process."""

import re
import secrets
import signal
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.bridge_clients import Address
from tests.cli_process import LykkeProcess, Result

TOKEN = secrets.token_urlsafe(32)
TOKENS = {"LYKKE_SERVE_TOKEN": TOKEN, "LYKKE_CURSOR_KEY": secrets.token_hex(32)}


STARTING = 60.0  # seconds, on a machine that is busy: several processes import much


class Serving:
    """A running `lykke serve`, which may be killed and started again.

    It is on a free port where none is named.
    """

    def __init__(self, *arguments: object, env: dict[str, str]) -> None:
        more = () if "--port" in arguments else ("--port", "0")
        self._words = ("serve", *arguments, *more)
        self._env = env
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Once more, after it has ended; on the same port only where one is named."""
        self.process = self._stack.enter_context(LykkeProcess(*self._words, env=self._env))
        self.process.wait_for("serving http", STARTING)

    def kill(self) -> None:
        self.process.send(signal.SIGKILL)
        self.process.finish()

    @property
    def said(self) -> str:
        return self.process.stderr

    @property
    def url(self) -> str:
        found = re.search(r"serving (http://\S+)", self.said)
        assert found is not None
        return found[1]

    @property
    def address(self) -> Address:
        return Address(int(self.url.rpartition(":")[2]))

    @property
    def workers(self) -> list[int]:
        """The processes of its workers."""
        pid = self.process.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        """The status, and what it says."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def stop(self, number: int = signal.SIGTERM) -> Result:
        return self.process.stop(number)
