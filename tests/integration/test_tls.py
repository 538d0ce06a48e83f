"""TLS with an authority of one's own and client certificates; and each way it can be refused.

Where the servers at hand were built with TLS it is theirs, else that of a proxy before them.
"""

import gc
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization

from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import Result, call_lykke, run_lykke
from tests.servers import READER_PASSWORD, PostgresServer, RedisServer, free_port
from tests.tls import Authority, Identity, TlsProxy, server_context

USER = uuid.uuid4()
READER = f"reader:{READER_PASSWORD}@"


@dataclass(frozen=True)
class Ports:
    """Where TLS is spoken."""

    open: int
    """To any client."""
    strict: int
    """To clients with a certificate; on PostgreSQL to the role `certified`."""
    plain: int
    """Not at all."""


class Certificates:
    """Who signed what."""

    def __init__(self, folder: Path) -> None:
        self.ours = Authority(folder, "ours")
        self.others = Authority(folder, "others")
        self.server = self.ours.sign("localhost")
        self.expired = self.ours.sign("localhost", expired=True)
        self.client = self.ours.sign("client.example", name="certified")
        self.stranger = self.others.sign("client.example", name="certified")
        self.folder = folder


# asyncpg leaves the socket of a connection whose TLS was refused to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def redis_ports(certificates: Certificates, redis_server: RedisServer) -> Iterator[Ports]:
    with ExitStack() as stack:
        ports = []
        for clients in (None, certificates.ours):
            port = free_port()
            tls = {
                "--tls-port": port,
                "--tls-ca-cert-file": certificates.ours.file,
                "--tls-cert-file": certificates.server.certificate,
                "--tls-key-file": certificates.server.key,
                "--tls-auth-clients": "no" if clients is None else "yes",
            }
            try:
                words = [str(word) for pair in tls.items() for word in pair]
                stack.enter_context(RedisServer(*words))
            except ChildProcessError:  # built without TLS
                context = server_context(certificates.server, clients)
                port = stack.enter_context(TlsProxy(redis_server.port, context)).port
            ports.append(port)
        yield Ports(ports[0], ports[1], redis_server.port)


@pytest.fixture(scope="module")
def postgres_ports(
    certificates: Certificates, _postgres_original: PostgresServer
) -> Iterator[Ports]:
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(_postgres_original))
        server.execute("CREATE DATABASE app TEMPLATE template_ts")
        server.execute(
            "CREATE ROLE certified LOGIN; GRANT SELECT ON audit_logs TO certified", "app"
        )
        plain, with_tls = server.port, True
        try:
            own = certificates.server
            server.use_tls(own.certificate, own.key, certificates.ours.file)
        except asyncpg.PostgresError:  # built without TLS
            with_tls = False
        if with_tls:
            server.execute(f"CREATE ROLE demanding LOGIN PASSWORD '{READER_PASSWORD}'")
            server.execute("GRANT SELECT ON audit_logs TO demanding", "app")
            server.let_in(
                "hostssl all demanding all scram-sha-256", "hostnossl all demanding all reject"
            )
        login = "hostssl all certified all cert" if with_tls else "host all certified all trust"
        server.let_in(login)
        server.stop()
        server.start()
        if with_tls:
            yield Ports(plain, plain, plain)
            return
        ports = [
            stack.enter_context(
                TlsProxy(plain, server_context(certificates.server, clients), postgres=True)
            ).port
            for clients in (None, certificates.ours)
        ]
        yield Ports(ports[0], ports[1], plain)


def redis_url(port: int, host: str = "localhost", **files: object) -> str:
    return f"rediss://{host}:{port}?" + urlencode({"socket_connect_timeout": 20} | files)


def postgres_url(port: int, host: str = "localhost", **files: object) -> str:
    """`login` is who connects, if not the reader."""
    login = files.pop("login", READER)
    options = urlencode({"sslmode": "verify-full"} | files)
    return f"postgresql://{login}{host}:{port}/app?{options}"


def publish(url: str) -> Result:
    return run_lykke("publish", USER, env={"REDIS_URL": url})


def follow(url: str) -> Result:
    return run_lykke("tail", USER, "--live-only", "--idle", "100ms", "-q", env={"REDIS_URL": url})


@pytest.fixture(params=[publish, follow])
def use(request: pytest.FixtureRequest) -> Callable[[str], Result]:
    """Of Redis: through redis-py, and on a connection of our own."""
    return cast(Callable[[str], Result], request.param)


def backfill(url: str) -> Result:
    return run_lykke("backfill", USER, "--since", "1h", env={"DATABASE_URL": url})


def examined_tls(server: str, env: dict[str, str]) -> str:
    """What doctor says about it."""
    checks = json.loads(run_lykke("doctor", "-o", "json", env=env).stdout)["checks"]
    [finding] = [check for check in checks if check["id"] == f"{server}.tls"]
    assert finding["status"] == "ok"
    return str(finding["detail"])


def assert_refused(result: Result, *parts: str) -> None:
    """One line, which says what is wrong and what to do."""
    assert result.status == ExitCode.UNAVAILABLE, result.stderr
    [line] = result.stderr.splitlines()
    for part in parts:
        assert part in line
    assert f":{READER_PASSWORD}@" not in line


def test_redis_with_an_authority_of_ones_own(
    use: Callable[[str], Result], redis_ports: Ports, certificates: Certificates
) -> None:
    url = redis_url(redis_ports.open, ssl_ca_certs=certificates.ours.file)
    assert use(url).status == ExitCode.DONE
    assert "the certificate is checked, TLSv1.3" in examined_tls("redis", {"REDIS_URL": url})


def test_redis_with_a_client_certificate(
    use: Callable[[str], Result], redis_ports: Ports, certificates: Certificates
) -> None:
    def url(client: Identity | None) -> str:
        files: dict[str, object] = {"ssl_ca_certs": certificates.ours.file}
        if client is not None:
            files |= {"ssl_certfile": client.certificate, "ssl_keyfile": client.key}
        return redis_url(redis_ports.strict, "localhost", **files)

    assert use(url(certificates.client)).status == ExitCode.DONE
    assert_refused(use(url(None)), "ssl_certfile=FILE")
    assert_refused(use(url(certificates.stranger)), "ssl_certfile=FILE")


def test_redis_with_certificates_that_are_refused(
    use: Callable[[str], Result],
    redis_ports: Ports,
    redis_server: RedisServer,
    certificates: Certificates,
) -> None:
    ours, others = certificates.ours.file, certificates.others.file
    wrong_host = redis_url(redis_ports.open, "127.0.0.1", ssl_ca_certs=ours)
    assert_refused(use(wrong_host), "not valid for '127.0.0.1'", "Use the host name")
    for url in (
        redis_url(redis_ports.open),
        redis_url(redis_ports.open, ssl_ca_certs=others),
    ):
        result = use(url)
        assert_refused(result, "certificate is not accepted", "ssl_ca_certs=FILE")
    with TlsProxy(redis_server.port, server_context(certificates.expired)) as proxy:
        result = use(redis_url(proxy.port, ssl_ca_certs=ours))
    assert_refused(result, "certificate has expired", "Renew")


def test_redis_where_one_side_alone_speaks_tls(
    use: Callable[[str], Result], redis_ports: Ports, certificates: Certificates
) -> None:
    assert_refused(use(redis_url(redis_ports.plain, socket_connect_timeout=0.2)), "speak TLS")
    assert_refused(use(f"redis://localhost:{redis_ports.open}"), "rediss://")


def test_postgres_with_an_authority_of_ones_own(
    postgres_ports: Ports, certificates: Certificates, redis_server: RedisServer
) -> None:
    url = postgres_url(postgres_ports.open, sslrootcert=certificates.ours.file)
    assert backfill(url).status == ExitCode.DONE
    env = {"DATABASE_URL": url, "REDIS_URL": redis_server.url}
    recorded = run_lykke("record", USER, "X", env=env)  # by another driver's way to connect
    assert_refused(recorded, "permission denied")
    assert "TLSv1.3; the server's certificate is checked" in examined_tls("database", env)
    unchecked = env | {"DATABASE_URL": url.replace("verify-full", "prefer")}
    assert "not checked (sslmode=verify-full" in examined_tls("database", unchecked)


def test_postgres_with_a_client_certificate(
    postgres_ports: Ports, certificates: Certificates
) -> None:
    def url(client: Identity | None) -> str:
        files: dict[str, object] = {"sslrootcert": certificates.ours.file}
        if client is not None:
            files |= {"sslcert": client.certificate, "sslkey": client.key}
        files["login"] = "certified@"
        return postgres_url(postgres_ports.strict, "localhost", **files)

    assert backfill(url(certificates.client)).status == ExitCode.DONE
    assert_refused(backfill(url(None)), "certificate")
    assert_refused(backfill(url(certificates.stranger)), "sslcert")


def test_postgres_with_certificates_that_are_refused(
    postgres_ports: Ports, certificates: Certificates
) -> None:
    ours, others = certificates.ours.file, certificates.others.file
    wrong_host = postgres_url(postgres_ports.open, "127.0.0.1", sslrootcert=ours)
    assert_refused(backfill(wrong_host), "not valid for '127.0.0.1'", "Use the host name")
    result = backfill(postgres_url(postgres_ports.open, sslrootcert=others))
    assert_refused(result, "certificate is not accepted", "sslrootcert=FILE")
    context = server_context(certificates.expired)
    with TlsProxy(postgres_ports.plain, context, postgres=True) as proxy:
        result = backfill(postgres_url(proxy.port, sslrootcert=ours))
    assert_refused(result, "certificate has expired", "Renew")


def test_postgres_where_this_side_alone_speaks_tls(
    postgres_server: PostgresServer, certificates: Certificates
) -> None:
    url = postgres_url(postgres_server.port, sslrootcert=certificates.ours.file)
    assert_refused(backfill(url), "rejected SSL upgrade", "speaks TLS")


@pytest.mark.parametrize("mode", ["", "require", "allow", "disable"])
def test_postgres_that_demands_tls(
    postgres_ports: Ports, redis_server: RedisServer, mode: str
) -> None:
    """It is spoken unless that is forbidden, and then the line says where."""
    if postgres_ports.open != postgres_ports.plain:
        pytest.skip("this PostgreSQL was built without TLS")
    login = f"demanding:{READER_PASSWORD}@localhost:{postgres_ports.open}"
    url = f"postgresql://{login}/app" + (f"?sslmode={mode}" if mode else "")
    if mode == "disable":
        assert_refused(backfill(url), "sslmode", "require")
        return
    assert backfill(url).status == ExitCode.DONE
    tail = ("tail", USER, "--idle", "100ms", "--since", "1h")
    env = {"DATABASE_URL": url, "REDIS_URL": redis_server.url}
    assert "following" in run_lykke(*tail, env=env).stderr
    assert "in use, TLS" in examined_tls("database", env)


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_files_that_cannot_be_used_are_usage_mistakes(
    kind: str, certificates: Certificates
) -> None:
    locked = certificates.folder / "locked.key"
    _encrypt(certificates.client.key, locked)
    names = {
        "redis": ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
        "postgres": ("sslrootcert", "sslcert", "sslkey"),
    }
    authority, certificate, key = names[kind]
    client, other = certificates.client, certificates.stranger
    for files, mistake in (
        ({authority: "/nowhere.pem"}, f"{authority} names cannot be read: No such file"),
        ({authority: client.key}, f"{authority} names cannot be used"),
        ({certificate: "/nowhere.pem"}, f"{certificate} names cannot be read"),
        ({certificate: client.certificate, key: "/no.key"}, f"{key} names cannot be read"),
        ({certificate: client.certificate, key: other.key}, f"{key} names cannot be used"),
        ({certificate: client.certificate, key: locked}, f"{key} names cannot be used"),
    ):
        if kind == "redis":
            url = redis_url(1, "localhost", **files)
            result = call_lykke("publish", USER, "--redis-url", url)
        else:
            result = call_lykke(
                "backfill",
                USER,
                "--database-url",
                postgres_url(1, "localhost", login=READER, **files),
            )
        assert result.status == ExitCode.USAGE
        assert mistake in result.stderr


def _encrypt(key: Path, locked: Path) -> None:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
