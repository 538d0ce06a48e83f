"""Looking up users whom the command line names by e-mail address, or by the start of their id."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.values import User
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files import recent

if TYPE_CHECKING:
    from lykke_cli.application.gateways.users_protocol import UsersProtocol


def id_of(user: User, settings: Settings) -> UUID:
    """The user's id; what is no id is looked up in the database.

    Raises UsageMistake when it names nobody, or several users, or there is no database to look an
    e-mail address up in.
    """
    [found] = ids_of([user], settings)
    return found


def ids_of(users: Sequence[User] | None, settings: Settings) -> list[UUID]:
    """The same for several, in order; for none, no id."""
    users = users or ()
    if all(user.is_id for user in users):
        return [UUID(str(user.named)) for user in users]
    from lykke_cli.cli.runtime import run_async

    return run_async(_find(settings, users))


async def _find(settings: Settings, users: Sequence[User]) -> list[UUID]:
    from lykke_cli.bootstrap import make_users

    if settings.database_url is None:
        return [await _found(None, user.named) for user in users]
    async with make_users(settings) as known:
        return [await _found(known, user.named) for user in users]


async def _found(known: "UsersProtocol | None", named: UUID | str) -> UUID:
    """None is for no database."""
    from lykke_cli.application.users import find_user, the_only, users_with_start

    if isinstance(named, UUID):
        return named
    if "@" not in named:
        return the_only(await users_with_start(known, recent.users(), named), named)
    if known is None:
        raise UsageMistake(
            f"{named!r} is an e-mail address, which is looked up in the database: set "
            "DATABASE_URL, or give the user's id (with --from only that will do)."
        )
    return await find_user(known, named)
