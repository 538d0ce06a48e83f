"""Rates and numbers of connections: what is let through, and that no count outlives its block."""

import uuid
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.web.limits import EVERYBODY, Allowance, Limits, Seats, TooMany, network_of

Address = IPv4Address | IPv6Address
USER, OTHER = uuid.uuid4(), uuid.uuid4()


def test_as_many_as_a_second_allows_come_at_once_and_then_one_after_the_other() -> None:
    allowance = Allowance(10)
    assert [allowance.takes(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert not allowance.takes(100.05)
    assert allowance.takes(100.11)
    assert not allowance.takes(100.11)
    assert [allowance.takes(500.0) for _ in range(11)] == [True] * 10 + [False]


def test_less_than_one_a_second_lets_one_through() -> None:
    allowance = Allowance(0.5)
    assert [allowance.takes(at) for at in (0.0, 1.0, 2.0, 3.0, 4.5)] == [1, 0, 1, 0, 1]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowance = Allowance(1)
    assert [allowance.takes(at) for at in (10.0, 5.0, 5.5, 6.5)] == [True, False, False, True]


@given(st.floats(0.1, 50), st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_never_more_than_the_rate_and_what_may_come_at_once(
    rate: float, pauses: list[float]
) -> None:
    allowance, now, let_through = Allowance(rate), 0.0, 0
    for pause in pauses:
        now += pause
        let_through += allowance.takes(now)
    assert let_through <= max(rate, 1) + rate * now + 1e-6


def test_one_user_has_so_many_connections_and_others_have_theirs() -> None:
    seats = Seats(Limits(sockets_per_user=2))
    with seats.taken(USER, "192.0.2.1"), seats.taken(USER, "192.0.2.2"):
        with pytest.raises(TooMany, match="this user"), seats.taken(USER, "192.0.2.3"):
            pytest.fail("one too many")
        with seats.taken(OTHER, "192.0.2.3"):
            pass
    with seats.taken(USER, "192.0.2.3"):
        pass
    assert len(seats) == 0


def test_those_that_follow_every_user_are_so_many_together() -> None:
    seats = Seats(Limits(sockets_per_user=1))
    with seats.taken(EVERYBODY, ""), seats.taken(USER, ""):
        with pytest.raises(TooMany, match="every user"), seats.taken(EVERYBODY, ""):
            pytest.fail("one too many")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:db8:0:0:ffff::2"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("testclient", "testclient"),
    ],
)
def test_one_address_has_so_many(first: str, second: str) -> None:
    seats = Seats(Limits(sockets_per_address=1))
    with seats.taken(USER, first):
        with pytest.raises(TooMany, match="this address"), seats.taken(OTHER, second):
            pytest.fail("one too many")
    assert len(seats) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("", "")],
)
def test_another_address_has_its_own_and_none_is_not_counted(first: str, second: str) -> None:
    seats = Seats(Limits(sockets_per_address=1))
    with seats.taken(USER, first), seats.taken(OTHER, second):
        pass
    assert len(seats) == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=30))
def test_no_count_outlives_its_block(arrivals: list[tuple[int, int, bool]]) -> None:
    """However it ends, in whatever order, and however many were refused."""
    users = [uuid.uuid4() for _ in range(3)]
    seats = Seats(Limits(sockets_per_user=3, sockets_per_address=4))
    open_ones: list[ExitStack] = []
    for user, address, leaves in arrivals:
        stack = ExitStack()
        try:
            stack.enter_context(seats.taken(users[user], f"192.0.2.{address}"))
            open_ones.append(stack)
        except TooMany:
            pass
        if leaves and open_ones:
            error = RuntimeError("the connection broke")
            with pytest.raises(RuntimeError), open_ones.pop(len(open_ones) // 2):
                raise error
    for stack in open_ones:
        stack.close()
    assert len(seats) == 0


@given(st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None))
def test_an_address_counts_with_those_of_its_network(address: Address) -> None:
    neighbour = type(address)(int(address) ^ 1)
    assert (network_of(str(address)) == network_of(str(neighbour))) is (address.version == 6)


@given(st.text(max_size=20))
def test_what_is_no_address_counts_for_something_all_the_same(address: str) -> None:
    assert isinstance(network_of(address), str)


@pytest.mark.parametrize("name", Limits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_lets_nothing_through_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})  # type: ignore[arg-type]
