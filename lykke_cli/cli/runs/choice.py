"""Asking at a terminal which user a command is about."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from shutil import get_terminal_size

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.servers import ask
from lykke_cli.cli.arguments.values import User, parse_user
from lykke_cli.cli.output.cells import cut, steady
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files import recent

MOST_RECENT = 5  # users met lately
MOST_ACTIVE = 5  # users with the most entries
ACTIVE_WITHIN = timedelta(hours=24)
MOST_COUNTED = 1_000  # users who were active last, of whom the most active are taken


def choose_user(settings: Settings) -> list[User]:
    """Offer those met lately and the most active ones, and return the one that is chosen.

    Returns none where there is none to offer; raises UsageMistake where none is chosen.
    """
    from lykke_cli.cli.runtime import run_async

    offered = dict(list(recent.users().items())[:MOST_RECENT])
    if settings.database_url is not None:
        offered |= {
            user: label
            for user, label in run_async(_most_active(settings)).items()
            if user not in offered
        }
    if not offered:
        return []
    width = get_terminal_size().columns
    numbered = {str(number): user for number, user in enumerate(offered, 1)}
    for number, user in numbered.items():
        label = steady(visible(offered[user]))
        sys.stderr.write(cut(f"{number:>3}  {user}  {label}", width - 1) + "\n")
    answer = ask("which user? (number, USER_ID or e-mail address)")
    if not answer:
        raise UsageMistake("No user was chosen.")
    return [parse_user(numbered.get(answer, answer))]


async def _most_active(settings: Settings) -> Mapping[str, str]:
    """By id, what is told of each; nothing where the database cannot be read."""
    from lykke_cli.application.gateways.history_protocol import Selection
    from lykke_cli.application.gateways.statistics_protocol import Scope
    from lykke_cli.bootstrap import make_users

    scope = Scope(selection=Selection(user_ids=None), since=datetime.now(UTC) - ACTIVE_WITHIN)
    try:
        async with make_users(settings) as users:
            found = await users.active(scope, MOST_COUNTED)
    except LykkeError:
        return {}
    return {
        user.user_id: f"{user.email or ''}  {user.entries:,} in 24 h".strip()
        for user in sorted(found, key=lambda user: -user.entries)[:MOST_ACTIVE]
    }
