"""What a selection means on PostgreSQL: the conditions, and the values they are sent with.

A statement takes them as its parameters $1 to $6 (`SELECTED`), or $1 to $8 with a range of time
(`IN_RANGE`). COPY takes no parameters, and reads them from settings of its transaction.
"""

from datetime import datetime

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.wall_clock import EARLIEST, LATEST


def _narrowed(types: str, entity_type: str, entity_id: str, likes: str, excluded: str) -> str:
    """The condition on all but the user, where each argument is an expression for a value."""
    return f"""
        ({types}::text[] IS NULL OR activity_type = ANY({types}::text[]))
        AND ({entity_type}::text IS NULL OR entity_type = {entity_type}::text)
        AND ({entity_id}::uuid IS NULL OR entity_id = {entity_id}::uuid)
        AND ({likes}::text[] IS NULL OR activity_type LIKE ANY({likes}::text[]))
        AND ({excluded}::text[] IS NULL OR NOT activity_type LIKE ANY({excluded}::text[]))
    """


def _setting(name: str, type: str) -> str:
    """The value of a setting, NULL where it is empty.

    In a SELECT of its own it is worked out once, not for every row.
    """
    return f"(SELECT substr(nullif(current_setting('lykke.{name}'), ''), 2)::{type})"


# A statement is planned with its values, and of the CASE one branch is left. For one user it is
# `=`: only that lets an index on (user_id, occurred_at) put the rows in order, up to PostgreSQL 16.
SELECTED = f"""
    CASE
        WHEN $1::uuid[] IS NULL THEN TRUE
        WHEN cardinality($1::uuid[]) = 1 THEN user_id = ($1::uuid[])[1]
        ELSE user_id = ANY($1::uuid[])
    END
    AND {_narrowed("$2", "$3", "$4", "$5", "$6")}
"""
IN_RANGE = f"""
    {SELECTED}
    AND ($7::timestamptz IS NULL OR occurred_at >= $7)
    AND ($8::timestamptz IS NULL OR occurred_at < $8)
"""

# A character comes before each value: an empty text is a value, an empty setting is none.
SET_SELECTION = """
    set_config('lykke.users', '=' || $1::uuid[]::text, true),
    set_config('lykke.activity_types', '=' || $2::text[]::text, true),
    set_config('lykke.entity_type', '=' || $3::text, true),
    set_config('lykke.entity_id', '=' || $4::uuid::text, true),
    set_config('lykke.activity_likes', '=' || $5::text[]::text, true),
    set_config('lykke.excluded_likes', '=' || $6::text[]::text, true)
"""
USERS_AS_SET = _setting("users", "uuid[]")
REST_AS_SET = _narrowed(
    _setting("activity_types", "text[]"),
    _setting("entity_type", "text"),
    _setting("entity_id", "uuid"),
    _setting("activity_likes", "text[]"),
    _setting("excluded_likes", "text[]"),
)


def selected(selection: Selection) -> tuple[object, ...]:
    """The parameters of `SELECTED`."""
    return (
        None if selection.user_ids is None else list(selection.user_ids),
        list(selection.activity_types) or None,
        selection.entity_type,
        selection.entity_id,
        list(selection.activity_likes) or None,
        list(selection.excluded_likes) or None,
    )


def in_range(
    selection: Selection, since: datetime | None, until: datetime | None
) -> tuple[object, ...]:
    """The parameters of `IN_RANGE`: `since` is inclusive, `until` exclusive."""
    return (*selected(selection), since, until)


def in_scope(scope: Scope) -> tuple[object, ...]:
    """The parameters of `IN_RANGE`.

    What is counted lies within the calendar: PostgreSQL also knows times before Christ and at
    infinity.
    """
    since, until = max(scope.since or EARLIEST, EARLIEST), min(scope.until or LATEST, LATEST)
    return in_range(scope.selection, since, until)
