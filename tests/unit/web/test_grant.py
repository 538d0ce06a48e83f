"""What a grant allows, when it ends, and which one may take its place."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from lykke_cli.web.grant import Forbidden, Grant, anybody

ALICE, BOB = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def grant(*scopes: str, subject: str = "alice", user_id: UUID | None = ALICE) -> Grant:
    return Grant(subject=subject, scopes=frozenset(scopes), user_id=user_id)


@pytest.mark.parametrize(
    ("scopes", "user", "reads", "publishes"),
    [
        ((), ALICE, False, False),
        (("read",), ALICE, True, False),
        (("read",), BOB, False, False),
        (("publish",), ALICE, False, True),
        (("publish",), BOB, False, False),
        (("read", "publish"), ALICE, True, True),
        (("read", "all-users"), BOB, True, False),
        (("publish", "all-users"), BOB, False, True),
        (("all-users",), ALICE, False, False),
    ],
)
def test_a_scope_allows_what_it_says_for_its_user_or_with_all_users_for_everybody(
    scopes: tuple[str, ...], user: UUID, reads: bool, publishes: bool
) -> None:
    it = grant(*scopes)
    assert (it.may_read(user), it.may_publish(user)) == (reads, publishes)


def test_a_grant_of_no_user_allows_nothing_without_all_users() -> None:
    assert not grant("read", "publish", user_id=None).may_read(ALICE)


def test_every_user_is_for_all_users_alone() -> None:
    assert grant("read", "all-users").may_read(None)
    assert not grant("publish", "all-users").may_read(None)
    for nobodys in (ALICE, None):
        assert not grant("read", "publish", user_id=nobodys).may_read(None)
    with pytest.raises(Forbidden, match="all-users"):
        grant("read", "all-users").renewed_by(grant("read"), reading=None)


@pytest.mark.parametrize(
    ("expires_at", "seconds"),
    [(None, None), (NOW + timedelta(seconds=90), 90), (NOW, 0), (NOW - timedelta(days=1), 0)],
)
def test_it_tells_how_long_it_still_holds(
    expires_at: datetime | None, seconds: float | None
) -> None:
    it = Grant(subject="alice", scopes=frozenset(), expires_at=expires_at)
    assert it.seconds_left(NOW) == seconds


def test_a_newer_one_of_the_same_takes_its_place_with_its_own_scopes_and_end() -> None:
    old, new = grant("read", "publish"), grant("read")
    assert old.renewed_by(new, reading=ALICE) is new


@pytest.mark.parametrize(
    "new",
    [
        grant("read", subject="bob"),
        grant("read", user_id=BOB),
        grant("read", "all-users", user_id=None),
        grant("publish"),
        grant(),
    ],
)
def test_one_of_somebody_else_or_without_the_right_does_not(new: Grant) -> None:
    with pytest.raises(Forbidden):
        grant("read", "publish").renewed_by(new, reading=ALICE)


def test_who_read_any_user_cannot_go_on_with_a_token_for_oneself_alone() -> None:
    with pytest.raises(Forbidden):
        grant("read", "all-users").renewed_by(grant("read"), reading=BOB)


async def test_where_nobody_is_asked_everything_is_allowed() -> None:
    it = await anybody(None, {})
    assert it.may_read(ALICE) and it.may_publish(BOB) and it.seconds_left() is None
