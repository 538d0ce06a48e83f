"""Who was active, and from an e-mail address to the user who has it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from uuid import UUID

import msgspec

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.gateways.users_protocol import ActiveUser, UsersProtocol

MOST_NAMED = 5
_START = re.compile("[0-9a-f]{1,32}")
_NO_EMAILS = (
    "The database has no table users with the columns id and email that may be read "
    "(GRANT SELECT (id, email) ON users)"
)


async def active_users(
    users: UsersProtocol, scope: Scope, limit: int, email: str | None
) -> Sequence[ActiveUser]:
    """As `UsersProtocol.active`; raises UsageMistake for a pattern where there is no address."""
    if email is not None and not await users.have_emails():
        raise UsageMistake(f"{_NO_EMAILS}: leave --email out.")
    return await users.active(scope, limit, email)


async def users_like(
    users: UsersProtocol, scope: Scope, limit: int, text: str
) -> Sequence[ActiveUser]:
    """At most `limit` active users whose id begins with `text`, or whose e-mail address has it."""
    found = list[ActiveUser]()
    digits = text.replace("-", "").lower()
    if _START.fullmatch(digits):
        whole = str(UUID(digits.ljust(32, "0")))
        start = whole[: len(digits) + sum(len(digits) > dash for dash in (8, 12, 16, 20))]
        ids = {UUID(id) for id in await users.with_start(start, limit)}
        if ids:
            of_them = msgspec.structs.replace(scope.selection, user_ids=ids)
            found += await users.active(replace(scope, selection=of_them), limit)
    if await users.have_emails():
        known = {user.user_id for user in found}
        others = await users.active(scope, limit, f"*{text}*")
        found += [user for user in others if user.user_id not in known]
    return found[:limit]


async def users_with_start(
    users: UsersProtocol | None, recent: Iterable[str], start: str
) -> Sequence[str]:
    """The ids that begin with `start`: of users with entries, else of those met lately."""
    found = [] if users is None else await users.with_start(start, MOST_NAMED + 1)
    return found or [each for each in recent if each.startswith(start)][: MOST_NAMED + 1]


def the_only(found: Sequence[str], start: str) -> UUID:
    """The one that was found; raises UsageMistake when there is none, or several."""
    if not found:
        raise UsageMistake(
            f"No user's id begins with {start}: neither of those with entries nor of those met "
            "lately. `lykke users` lists them."
        )
    if len(found) > 1:
        raise UsageMistake(f"Several users' ids begin with {start}: {_named(found)}.")
    return UUID(found[0])


async def find_user(users: UsersProtocol, email: str) -> UUID:
    """The id of the one user whose e-mail address is `email`, in any case.

    Raises UsageMistake when there is none, or more than one, or no address can be looked up.
    """
    if not await users.have_emails():
        raise UsageMistake(f"{_NO_EMAILS}: give the user's id; `lykke users` lists them.")
    found = await users.with_email(email, MOST_NAMED + 1)
    if not found:
        raise UsageMistake(
            f"No user has the e-mail address {email!r}: `lykke users --email PATTERN` looks for "
            "similar ones."
        )
    if len(found) > 1:
        raise UsageMistake(
            f"Several users have the e-mail address {email!r}: give one of the ids {_named(found)}."
        )
    try:
        return UUID(found[0])
    except ValueError:
        raise UsageMistake(
            f"The user {email!r} has the id {found[0][:80]!r}, which is not a UUID."
        ) from None


def _named(found: Sequence[str]) -> str:
    """The ids, as far as there are few."""
    more = " and more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more
