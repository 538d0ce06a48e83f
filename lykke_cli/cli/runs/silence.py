"""Why nothing comes, where that is probably a mistake: told, and never an error."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from difflib import get_close_matches
from uuid import UUID

from lykke_cli.application.filters import Filters, has_patterns
from lykke_cli.application.gateways.history_protocol import HistoryProtocol, Selection
from lykke_cli.bootstrap import make_history
from lykke_cli.domain.audit_log import ActivityType
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files import recent

LIVE_ONLY = (
    "live only: what is published while the connection is down is lost (with a database it would "
    "be read from there)"
)
CLOSEST = 3  # names that are looked up, each in the database


async def probable_mistakes(
    settings: Settings, user_ids: Iterable[UUID], filters: Filters
) -> AsyncIterator[str]:
    """A line for a user without any entry, and for each activity type that nobody has used.

    On a connection of its own; where the database cannot be read, nothing is found.
    """
    try:
        async with make_history(settings) as history:
            for user_id in user_ids:
                if not await _has_any(history, Selection(user_ids={user_id})):
                    yield f"{user_id} has no entry in this database yet, of any time"
            for name in filters.activity_types:
                # A pattern is not looked up: it would be compared with every row there is.
                if not has_patterns([name]) and not await _is_used(history, name):
                    near = await _nearest(history, name)
                    meant = "" if near is None else f"; did you mean {near}?"
                    yield f"no user has an entry of the type {name} yet{meant}"
    except LykkeError:
        return


async def _nearest(history: HistoryProtocol, name: str) -> str | None:
    """The activity type in use that is most like `name`, of those that are known here."""
    known: Iterable[str] = [*recent.activity_types(), *ActivityType]
    by_folded = {each.casefold(): each for each in known if each != name}
    for near in get_close_matches(name.casefold(), by_folded, n=CLOSEST):
        if await _is_used(history, by_folded[near]):
            return by_folded[near]
    return None


async def _is_used(history: HistoryProtocol, activity_type: str) -> bool:
    return await _has_any(history, Selection(user_ids=None, activity_types=(activity_type,)))


async def _has_any(history: HistoryProtocol, selection: Selection) -> bool:
    async with aclosing(history.stream(selection, limit=1)) as batches:
        async for rows in batches:
            if rows:
                return True
    return False
