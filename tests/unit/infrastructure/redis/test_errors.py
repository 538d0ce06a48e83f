"""Every error of redis-py becomes one of ours, on one line; every URL is shown without secrets."""

import errno
import socket
import ssl
import uuid
from collections.abc import Callable
from inspect import signature

import pytest
import redis.asyncio.connection
from redis import exceptions
from redis.asyncio.connection import SSLConnection, parse_url

from lykke_cli import RedisPubSubGateway
from lykke_cli.application.errors import LoginRefused, ServerUnavailable, UsageMistake
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.errors import MOST_SHOWN, reason, redis_errors, refused_as
from lykke_cli.infrastructure.redis.urls import display_url, parse_redis_url
from tests.cli_process import call_lykke

SERVER = "redis://host:6379/0"


def wrapped(outer: Exception, inner: Exception) -> Callable[[], None]:
    """redis-py raises its own error while it handles the socket's."""

    def fail() -> None:
        try:
            raise inner
        except type(inner):
            raise outer  # noqa: B904

    return fail


def bare(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify")
    error.verify_message = "self-signed certificate"
    error.verify_code = 18
    return error


def tls_error() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 6379)")
SEVERAL = OSError(
    f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] Connect call failed ('::1', 6379, 0, 0), "
    f"[Errno {errno.ECONNREFUSED}] Connect call failed ('127.0.0.1', 6379)"
)
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
ERROR = exceptions.ConnectionError("Error 111 connecting to host:6379.")

UNAVAILABLE = {
    "refused": (wrapped(ERROR, REFUSED), "(connection refused). Is it running?"),
    "refused at each address": (wrapped(ERROR, SEVERAL), "(connection refused)"),
    "unknown host": (wrapped(ERROR, UNKNOWN), "(name or service not known)"),
    "socket missing": (wrapped(ERROR, FileNotFoundError(2, "")), "(no such file or directory)"),
    "reset": (bare(ConnectionResetError(104, "Connection reset by peer")), "reset by peer"),
    "closed": (bare(exceptions.ConnectionError("Connection closed by server.")), "by server)."),
    "time-out": (bare(exceptions.TimeoutError("Timeout reading")), "did not answer in time"),
    "connect time-out": (bare(TimeoutError()), "did not answer in time"),
    "loading": (bare(exceptions.BusyLoadingError("Redis is loading")), "Redis is loading"),
    "too many": (bare(exceptions.ConnectionError("Too many")), "(Too many)"),
    "certificate": (wrapped(ERROR, certificate_error()), "not accepted: self-signed certificate)"),
    "no TLS": (wrapped(ERROR, tls_error()), "(wrong version number). Does this port speak TLS"),
    "no database": (
        bare(exceptions.ResponseError("DB index is out of range")),
        "Check the database number",
    ),
    "other refusal": (bare(exceptions.ResponseError("unknown command")), "(unknown command)"),
    "no Redis": (bare(exceptions.InvalidResponse("Protocol Error: 'H'")), "Protocol Error: 'H'"),
}
REFUSED_LOGINS = {
    "WRONGPASS": bare(exceptions.AuthenticationError("invalid username-password pair")),
    "NOAUTH": bare(exceptions.AuthenticationError("Authentication required.")),
    "over a Unix socket": wrapped(
        exceptions.ConnectionError("invalid"), exceptions.AuthenticationError("invalid")
    ),
    "AuthorizationError": bare(exceptions.AuthorizationError("no")),
    "NOPERM": bare(exceptions.NoPermissionError("No permissions to access a channel")),
}


@pytest.mark.parametrize("fail, text", UNAVAILABLE.values(), ids=UNAVAILABLE.keys())
def test_unavailable(fail: Callable[[], None], text: str) -> None:
    with pytest.raises(ServerUnavailable) as caught, redis_errors(SERVER):
        fail()
    assert type(caught.value) is ServerUnavailable
    shown = str(caught.value)
    assert text in shown
    assert SERVER in shown
    assert "\n" not in shown


@pytest.mark.parametrize("fail", REFUSED_LOGINS.values(), ids=REFUSED_LOGINS.keys())
def test_login_refused(fail: Callable[[], None]) -> None:
    with pytest.raises(LoginRefused, match=SERVER), redis_errors(SERVER):
        fail()


@pytest.mark.parametrize("name", ["refused", "refused at each address", "time-out", "certificate"])
def test_the_remedy_is_named(name: str) -> None:
    with pytest.raises(ServerUnavailable, match=r"Set REDIS_URL or give --redis-url"):
        with redis_errors(SERVER):
            UNAVAILABLE[name][0]()


def test_a_servers_text_stays_one_short_line() -> None:
    error = exceptions.ResponseError("a\nb\r\n" + "x" * 5_000)
    with pytest.raises(ServerUnavailable) as caught, redis_errors(SERVER):
        raise error
    assert "a b x" in str(caught.value)
    assert len(str(caught.value)) < MOST_SHOWN + 100


def test_the_reason_is_of_the_last_attempt() -> None:
    try:
        raise exceptions.ConnectionError("Connection has data")
    except exceptions.ConnectionError:
        with pytest.raises(ServerUnavailable, match="connection refused"):
            with redis_errors(SERVER):
                wrapped(ERROR, ConnectionRefusedError(errno.ECONNREFUSED, "refused"))()


def test_a_bug_is_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), redis_errors(SERVER):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "url, shown",
    [
        ("redis://h", "redis://h:6379"),
        ("redis://h/", "redis://h:6379"),
        ("redis://h/0", "redis://h:6379/0"),
        ("redis://h?db=3", "redis://h:6379/3"),
        ("redis://u:s3cret@h:1/2", "redis://u@h:1/2"),
        ("redis://:s3cret@h:1/2", "redis://h:1/2"),
        ("redis://:s3%23cr@et@h:1", "redis://h:1"),
        ("rediss://u:s3cret@[::1]:6380", "rediss://u@[::1]:6380"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://u:s3cret@/run/redis.sock?db=1", "unix://u@/run/redis.sock?db=1"),
        ("unix:///run/redis.sock?password=s3cret", "unix:///run/redis.sock"),
        ("redis://h?username=u&password=s3cret&decode_responses=1&protocol=3", "redis://h:6379"),
        ("redis+sentinel://h/mine", "redis+sentinel://h:26379/mine"),
        (
            "rediss+sentinel://u:s3cret@h:1,[::1]/mine/2?sentinel_password=s3cret",
            "rediss+sentinel://u@h:1,[::1]:26379/mine/2",
        ),
        ("redis+cluster://:s3cret@h,[::1]:7", "redis+cluster://h:6379,[::1]:7"),
        ("rediss+cluster://u:s3cret@h/0", "rediss+cluster://u@h:6379/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert display_url(url) == shown
    assert "s3cret" not in repr(parse_redis_url(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "localhost:6379",
        "http://u:s3cret@h",
        "redis://",
        "redis:///0",
        "redis://:s3cret@",
        "redis://h:s3cret",
        "redis://h:99999999",
        "redis://[::1",
        "redis://u:s3cret@h/zero",
        "redis://u:s3cret@h/1/2",
        "redis://u:12#s3cret@h:6379",
        "redis://u:12/s3cret@h:6379",
        "redis://u:12?s3cret@h:6379",
        "redis://u:s3cret@h?socket_timeout=soon",
        "redis://u:s3cret@h?sokcet_timeout=1",
        "redis://u:s3cret@h?ssl_cert_reqs=none",
        "redis://u:s3cret@h?max_connections=0",
        "redis://u:s3cret@h?max_connections=many",
        "redis://u:s3cret@a..b",
        "redis://u:s3cret@.b",
        "redis://u:s3cret@ä..b",
        f"redis://u:s3cret@{'x' * 64}.example",
        "rediss://u:s3cret@h?ssl_cert_reqs=s3cret",
        "rediss://u:s3cret@h?ssl_nonsense=1",
        "rediss://u:s3cret@h?ssl_ca_data=nonsense",
        "rediss://u:s3cret@h?ssl_ciphers=nonsense",
        "rediss://u:s3cret@h?ssl_min_version=1",
        "unix://",
        "unix://run/redis.sock",
        "redis://u:s3cret@h%00",
        "redis://u:s3cret\udcff@h",
        "redis+sentinel://u:s3cret@h",
        "redis+sentinel://u:s3cret@h,/mine",
        "redis+sentinel://u:s3cret@h/mine/two",
        "redis+sentinel://u:s3cret@h/mine?nonsense=1",
        "redis+sentinel://u:s3cret@h/mi\udcffne",
        "unix+sentinel://u:s3cret@h/mine",
        "redis+cluster://u:s3cret@h/1",
        "redis+cluster://u:s3cret@h,",
        "redis+nothing://u:s3cret@h",
        "redis://u:s3cret@h?transport=pigeon",
    ],
)
def test_a_malformed_url_is_a_mistake_that_does_not_show_it(url: str) -> None:
    with pytest.raises(UsageMistake, match="The Redis URL is malformed") as caught:
        RedisPubSubGateway(url or " ")
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__
    assert "write it like redis" in str(caught.value)


@pytest.mark.parametrize("port", [":99999", ":0", ":" + "9" * 5_000, "?port=99999", "?port=x"])
@pytest.mark.parametrize("host", ["redis://u:s3cret@h", "rediss://[::1]"])
def test_a_port_that_is_none_is_told_of(host: str, port: str) -> None:
    result = call_lykke("publish", uuid.uuid4(), env={"REDIS_URL": host + port})
    assert (result.status, result.stdout) == (ExitCode.USAGE, b"")
    [line] = result.stderr.splitlines()
    assert "the port is out of range, it is a number from 1 to 65535" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://127.0.0.1:1/0",
        "redis://[::1]:6380/15",
        "redis://me@host/",
        "redis://:p%40ss%2Fw%25@host:1/2",
        "redis://me:s3cret@Host.Example",
        "rediss://me:s3cret@host:1/2",
        "unix:///run/redis%20one.sock",
        "unix://me:s3cret@/run/redis.sock",
    ],
)
def test_a_url_without_options_means_what_redis_py_takes_it_for(url: str) -> None:
    theirs = dict(parse_url(url))
    theirs.pop("connection_class", None)
    assert parse_redis_url(url).options == theirs


@pytest.mark.parametrize(
    "options",
    [
        "",
        "ssl_check_hostname=False",
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=optional",
        "ssl_min_version=772&ssl_ciphers=ECDHE-RSA-AES256-GCM-SHA384",
        "ssl_include_verify_flags=VERIFY_X509_STRICT",
    ],
)
def test_tls_is_what_redis_py_makes_of_it_without_a_private_name_of_its(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(context: ssl.SSLContext | None) -> list[object]:
        assert context is not None
        ciphers = [cipher["name"] for cipher in context.get_ciphers()]
        flags, stats = context.verify_flags, context.cert_store_stats()
        return [context.check_hostname, context.verify_mode, flags, stats, ciphers]

    known = signature(SSLConnection.__init__).parameters  # an old one knows fewer
    options = "&".join(pair for pair in options.split("&") if pair.partition("=")[0] in known)
    address = parse_redis_url(f"rediss://host?{options}")
    given = address.pool_options()
    connection = given.pop("connection_class")(**given)
    theirs = facts(connection.ssl_context.get())
    monkeypatch.setattr(SSLConnection, "ssl_context", None, raising=False)
    monkeypatch.delattr(redis.asyncio.connection, "RedisSSLContext")
    assert facts(address.tls()) == theirs


def test_an_address_does_not_show_its_password() -> None:
    assert "s3cret" not in repr(parse_redis_url("redis://me:s3cret@host"))


def test_a_server_that_does_not_know_auth_tells_nobody_the_password() -> None:
    text = "unknown command 'AUTH', with args beginning with: 'me' 's3cret'"
    assert reason(Exception(text)) == "unknown command 'AUTH'"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ResponseError("MOVED 1350 h:7000"), exceptions.MovedError),
        (exceptions.MovedError("1350 h:7000"), exceptions.MovedError),
        (exceptions.ResponseError("CLUSTERDOWN Hash slot"), exceptions.ClusterDownError),
        (exceptions.ResponseError("MOVEDISH"), exceptions.ResponseError),
        (None, None),
    ],
)
def test_what_a_cluster_refuses_is_known_in_every_version_of_redis_py(
    error: Exception | None, kind: type[Exception] | None
) -> None:
    assert refused_as(error) is kind
