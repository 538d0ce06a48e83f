"""Addresses are looked up once, a few at a time, and what fails is not told."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import pytest

from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.cli.runs import emails
from lykke_cli.cli.runs.emails import Emails
from lykke_cli.infrastructure.configuration.settings import Settings


class Users:
    """Everybody has an address whose number is even."""

    def __init__(self, *, has_emails: bool = True, error: Exception | None = None) -> None:
        self.asked: list[list[str]] = []
        self.entered = 0
        self._has_emails = has_emails
        self._error = error

    async def __aenter__(self) -> Self:
        self.entered += 1
        if self._error is not None:
            raise self._error
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def have_emails(self) -> bool:
        return self._has_emails

    async def emails(self, user_ids: Collection[str]) -> Mapping[str, str]:
        self.asked.append(list(user_ids))
        return {id: f"{id}@example.com" for id in user_ids if int(id) % 2 == 0}


Serve = Callable[..., Users]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    def serve(**how: Any) -> Users:
        users = Users(**how)
        monkeypatch.setattr(emails, "make_users", lambda _: users)
        return users

    return serve


async def test_each_user_is_looked_up_once(serve: Serve) -> None:
    users, found = serve(), Emails(Settings())
    await found.look_up(["2", "3", "2"])
    await found.look_up(["3", "2"])
    await found.look_up(["2", "4"])
    assert users.asked == [["2", "3"], ["4"]]
    assert found.known == {"2": "2@example.com", "3": "", "4": "4@example.com"}


async def test_it_is_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emails, "MOST_KNOWN", 6)
    monkeypatch.setattr(emails, "MOST_AT_ONCE", 4)
    users, found = serve(), Emails(Settings())
    await found.look_up(map(str, range(100)))
    await found.look_up(map(str, range(50, 100)))
    assert [len(asked) for asked in users.asked] == [4, 4]
    assert list(found.known) == ["2", "3", "50", "51", "52", "53"]


@pytest.mark.parametrize(
    "how",
    [
        {"error": ServerUnavailable()},
        {"error": LoginRefused()},
        {"error": TimeoutError()},
        {"has_emails": False},
    ],
)
async def test_what_fails_is_not_tried_again_at_once_and_not_told(
    serve: Serve, how: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    users, found = serve(**how), Emails(Settings())
    for number in range(5):
        await found.look_up([str(number)])
    assert (users.entered, users.asked, found.known) == (1, [], {})
    assert capsys.readouterr() == ("", "")
