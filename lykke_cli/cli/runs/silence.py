"""Why nothing comes, where that is probably a mistake: told, and never an error."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from difflib import get_close_matches
from uuid import UUID

from lykke_cli.application.filters import Filters, has_patterns
from lykke_cli.application.gateways.history_protocol import HistoryProtocol, Selection
from lykke_cli.bootstrap import make_history, make_statistics
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.configuration.transport import keeps_messages

LIVE_ONLY = (
    "live only: what is published while the connection is down is lost (with a database it would "
    "be read from there)"
)
KEPT_IN_STREAMS = (
    "no database: what is trimmed from the streams before it is read is lost (with one it would be "
    "read from there)"
)
MOST_TYPES = 1_000  # that a name is compared with


def without_database(settings: Settings) -> str:
    """What the person may not know who has named none."""
    return KEPT_IN_STREAMS if keeps_messages(settings.redis_url) else LIVE_ONLY


async def probable_mistakes(
    settings: Settings, user_ids: Collection[UUID], filters: Filters, *, printed: int = 0
) -> AsyncGenerator[str]:
    """A line for a user without any entry, and for each activity type that nobody has used.

    Where something was `printed`, one user has entries, and one type is used. On a connection of
    its own; where the database cannot be read, nothing is found.
    """
    # A pattern is not looked up: it would be compared with every row there is.
    names = [name for name in filters.activity_types if not has_patterns([name])]
    users = [] if printed and len(user_ids) == 1 else [*user_ids]
    if printed and len(filters.activity_types) == 1:
        names = []
    if not (users or names):
        return
    try:
        async with make_history(settings) as history:
            for user_id in users:
                if not await _has_any(history, Selection(user_ids={user_id})):
                    yield f"{user_id} has no entry in this database yet, of any time"
            for name in names:
                if not await _is_used(history, name):
                    near = await _nearest(settings, name)
                    meant = "" if near is None else f"; did you mean {near}?"
                    yield f"no user has an entry of the type {name} yet{meant}"
    except LykkeError:
        return


async def _nearest(settings: Settings, name: str) -> str | None:
    """The activity type in use that is most like `name`, in whichever case."""
    async with make_statistics(settings) as statistics:
        types = await statistics.types(MOST_TYPES)
    by_folded = {each.casefold(): each for each in types}
    near = get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[near[0]] if near else None


async def _is_used(history: HistoryProtocol, activity_type: str) -> bool:
    return await _has_any(history, Selection(user_ids=None, activity_types=(activity_type,)))


async def _has_any(history: HistoryProtocol, selection: Selection) -> bool:
    async with aclosing(history.stream(selection, limit=1)) as batches:
        async for rows in batches:
            if rows:
                return True
    return False
