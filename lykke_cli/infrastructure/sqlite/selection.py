"""What a selection means on SQLite: the condition, and the values it is sent with.

Ids are stored with or without dashes, times as text without a zone. Both are compared as text.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import Scope

# SQLite's LIKE takes no notice of case, its GLOB does.
IN_RANGE = """
    CASE
        WHEN :user IS NOT NULL THEN user_id IN (:user, :user_hex)  -- a list would be slower
        WHEN :users IS NOT NULL THEN user_id IN (SELECT value FROM json_each(:users))
        ELSE TRUE
    END
    AND (:types IS NULL OR activity_type IN (SELECT value FROM json_each(:types)))
    AND (:globs IS NULL OR EXISTS (
        SELECT 1 FROM json_each(:globs) WHERE activity_type GLOB value))
    AND (:not_globs IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:not_globs) WHERE activity_type GLOB value))
    AND (:entity_type IS NULL OR entity_type = :entity_type)
    AND (:entity IS NULL OR entity_id IN (:entity, :entity_hex))
    AND (:since IS NULL OR occurred_at >= :since)
    AND (:until IS NULL OR occurred_at < :until)
"""
_LIKE_PART = re.compile(r"\\.|.", re.DOTALL)
_WILD = {"%": "*", "_": "?"}
_PLAIN = {"*": "[*]", "?": "[?]", "[": "[[]"}


def in_range(
    selection: Selection, since: datetime | None = None, until: datetime | None = None
) -> dict[str, Any]:
    """The parameters of `IN_RANGE`: `since` is inclusive, `until` exclusive."""
    user, users, entity = None, selection.user_ids, selection.entity_id
    if users is not None and len(users) == 1:
        [user] = users
    return {
        "user": None if user is None else str(user),
        "user_hex": None if user is None else user.hex,
        "users": None if users is None else as_list(f for u in users for f in (str(u), u.hex)),
        "types": as_list(selection.activity_types) if selection.activity_types else None,
        "globs": _globs(selection.activity_likes),
        "not_globs": _globs(selection.excluded_likes),
        "entity_type": selection.entity_type,
        "entity": None if entity is None else str(entity),
        "entity_hex": None if entity is None else entity.hex,
        "since": None if since is None else stored_time(since),
        "until": None if until is None else stored_time(until),
    }


def in_scope(scope: Scope) -> dict[str, Any]:
    """The parameters of `IN_RANGE` for what is counted."""
    return in_range(scope.selection, scope.since, scope.until)


def stored_time(moment: datetime) -> str:
    """An aware time as the column `occurred_at` holds it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def as_list(values: Iterable[str | int]) -> str:
    """Several values as one parameter, for json_each()."""
    return orjson.dumps(list(values)).decode()


def _globs(likes: Sequence[str]) -> str | None:
    return as_list(map(_glob, likes)) if likes else None


def _glob(like: str) -> str:
    r"""GLOB's form of a pattern for LIKE whose escape is `\`."""

    def part(found: re.Match[str]) -> str:
        return _WILD.get(found[0]) or _PLAIN.get(found[0][-1], found[0][-1])

    return _LIKE_PART.sub(part, like)
