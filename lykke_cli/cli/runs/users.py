"""Looking up a user whom the command line names by e-mail address."""

from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.values import User
from lykke_cli.infrastructure.configuration.settings import Settings


def id_of(user: User, settings: Settings) -> UUID:
    """The user's id; only an e-mail address is looked up, in the database.

    Raises UsageMistake when it names nobody, or several users, or there is no database.
    """
    if isinstance(user.named, UUID):
        return user.named
    if settings.database_url is None:
        raise UsageMistake(
            f"{user.named!r} is an e-mail address, which is looked up in the database: set "
            "DATABASE_URL, or give the user's id."
        )
    from lykke_cli.cli.runtime import run_async

    return run_async(_find(settings, user.named))


async def _find(settings: Settings, email: str) -> UUID:
    from lykke_cli.application.users import find_user
    from lykke_cli.bootstrap import make_users

    async with make_users(settings) as users:
        return await find_user(users, email)
