"""The sockets of a bridge, and what is said where they cannot be had."""

import errno
import resource
import socket

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web.listening import allow_many_files, bind, is_local, url


def test_port_0_is_one_that_is_free_and_the_url_names_it() -> None:
    (bound,) = bind("127.0.0.1", 0)
    with bound:
        port = bound.getsockname()[1]
        assert port > 0
        assert url("127.0.0.1", [bound]) == f"http://127.0.0.1:{port}"
        assert url("::1", [bound]) == f"http://[::1]:{port}"


def test_all_addresses_of_a_name_get_the_same_port() -> None:
    sockets = bind("localhost", 0)
    assert len({bound.getsockname()[1] for bound in sockets}) == 1
    assert is_local(sockets)
    for bound in sockets:
        bound.close()


def test_an_address_that_others_reach_is_not_local() -> None:
    (bound,) = bind("0.0.0.0", 0)
    with bound:
        assert not is_local([bound])


def test_nobody_waits_before_it_listens() -> None:
    (bound,) = bind("127.0.0.1", 0)
    with bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname())


def test_a_port_that_is_taken_is_named() -> None:
    (bound,) = bind("127.0.0.1", 0)
    with bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(UsageMistake, match=f"--port {port}: another program has it"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("a..b", r"--host a\.\.b: there is no such host"),
        ("192.0.2.1", r"--host 192\.0\.2\.1: that is no address of this machine"),
    ],
)
def test_a_host_that_is_none_is_named(host: str, said: str) -> None:
    with pytest.raises(UsageMistake, match=said):
        bind(host, 0)


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EACCES, "--port 80: this user may not have it"), (errno.ENOBUFS, "cannot listen")],
)
def test_a_refusal_is_explained(number: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, "no")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(UsageMistake, match=said):
        bind("127.0.0.1", 80)


def test_as_many_sockets_are_allowed_as_the_system_lets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft // 2, hard))
    try:
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= soft
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
