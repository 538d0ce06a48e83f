"""TLS to Sentinels and to a cluster, while a server dies.

The servers at hand may have been built without it, so it is spoken by proxies before them.
"""

import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import LykkeProcess, run_lykke
from tests.faults.cluster import NODES, RedisCluster
from tests.faults.sentinels import Watched
from tests.tls import Authority, TlsOrPlainProxy, server_context

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

WATCHED = 5  # a primary, its replica, three Sentinels


class Secured:
    """Proxies before servers, with certificates of our own authority or of another one."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._ours = Authority(folder, "ours")
        self.ours = self._context(self._ours)
        self.others = self._context(Authority(folder, "others"))

    def fronts(self, *contexts: ssl.SSLContext) -> Sequence[TlsOrPlainProxy]:
        return [self._stack.enter_context(TlsOrPlainProxy(context)) for context in contexts]

    def url(self, url: str, **options: object) -> str:
        """The same by TLS, with our authority trusted."""
        asked = urlencode(options | {"ssl_ca_certs": self._ours.file})
        return f"{url.replace('redis+', 'rediss+')}?{asked}"

    @staticmethod
    def _context(authority: Authority) -> ssl.SSLContext:
        return server_context(authority.sign("127.0.0.1"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def secured(tmp_path: Path, stack: ExitStack) -> Secured:
    return Secured(tmp_path, stack)


@contextmanager
def recording(url: str, database: str) -> Iterator[LykkeProcess]:
    """A tail, while entries are recorded: before the block, in it and after it, each printed."""
    user, env = uuid.uuid4(), {"DATABASE_URL": database, "REDIS_URL": url}

    def record(kind: str) -> None:
        result = run_lykke("record", user, kind, env=env, timeout=60)
        assert result.status == ExitCode.DONE, result.stderr

    with LykkeProcess("tail", user, "--count", 3, "--reconcile", "1s", env=env) as tail:
        tail.wait_for("following")
        record("BEFORE")
        yield tail
        record("DURING")
        tail.wait_for("is followed now, no longer")
        record("AFTER")
        result = tail.finish()
    assert result.status == ExitCode.DONE
    assert sorted(row["activity_type"] for row in result.rows) == ["AFTER", "BEFORE", "DURING"]


def test_behind_sentinels(stack: ExitStack, secured: Secured, postgres_url: str) -> None:
    watched = stack.enter_context(Watched(secured.fronts(*[secured.ours] * WATCHED)))
    with recording(secured.url(watched.url), postgres_url):
        watched.primary.kill()


@pytest.mark.parametrize("transport", ["pubsub", "sharded"])
def test_on_a_cluster(
    stack: ExitStack, secured: Secured, postgres_url: str, transport: str
) -> None:
    cluster = stack.enter_context(RedisCluster(secured.fronts(*[secured.ours] * NODES)))
    with recording(secured.url(cluster.url, transport=transport), postgres_url) as tail:
        _, _, port = tail.stderr.partition(" at 127.0.0.1:")
        [node] = [one for one in cluster.nodes if port.startswith(f"{one.found_at}\n")]
        node.kill()


@pytest.mark.parametrize("wrong", ["the primary", "the Sentinels"])
def test_a_certificate_of_either_is_checked_behind_sentinels(
    stack: ExitStack, secured: Secured, wrong: str
) -> None:
    of_primary = secured.others if wrong == "the primary" else secured.ours
    of_sentinels = secured.others if wrong == "the Sentinels" else secured.ours
    fronts = secured.fronts(of_primary, secured.ours, *[of_sentinels] * 3)
    watched = stack.enter_context(Watched(fronts))
    assert_refused(secured.url(watched.url))


def test_the_certificate_of_a_node_is_checked(stack: ExitStack, secured: Secured) -> None:
    cluster = stack.enter_context(RedisCluster(secured.fronts(*[secured.others] * NODES)))
    assert_refused(secured.url(cluster.url))


def assert_refused(url: str) -> None:
    """By who publishes, who follows, and who asks for the channels."""
    user = uuid.uuid4()
    for command in (("publish", user), ("tail", user, "--live-only"), ("channels",)):
        result = run_lykke(*command, env={"REDIS_URL": url})
        assert (result.status, result.stdout) == (ExitCode.UNAVAILABLE, b"")
        [line] = result.stderr.splitlines()
        assert "certificate is not accepted" in line
