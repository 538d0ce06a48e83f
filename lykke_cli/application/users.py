"""Who was active, and from an e-mail address to the user who has it."""

from collections.abc import Sequence
from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.gateways.users_protocol import ActiveUser, UsersProtocol

MOST_NAMED = 5
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
        named = ", ".join(found[:MOST_NAMED])
        more = " and more" if len(found) > MOST_NAMED else ""
        raise UsageMistake(
            f"Several users have the e-mail address {email!r}: give one of the ids {named}{more}."
        )
    try:
        return UUID(found[0])
    except ValueError:
        raise UsageMistake(
            f"The user {email!r} has the id {found[0][:80]!r}, which is not a UUID."
        ) from None
