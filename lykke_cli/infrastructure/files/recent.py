"""Users and activity types met lately: hints for completion, never worth an error.

The list is bounded and readable by its owner only. What completion offers is read by a shell, so
only what has no meaning there is taken in, and nothing else is given out.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import orjson

from lykke_cli.infrastructure.files.private_file import (
    make_private_folder,
    open_private,
    private_state,
)
from lykke_cli.infrastructure.files.whole_file import replace_file

LIMIT = 50
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_USER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LABEL = re.compile(r"[a-z]+ \d{4}-\d{2}-\d{2}")
_LONGEST = 64 << 10  # bytes


def recent_path() -> Path:
    """The file that holds them; raises OSError where there is no state folder."""
    return private_state() / "recent.json"


def users() -> dict[str, str]:
    """User ids, newest first, each with the command and the day it was last used on."""
    return _read()[0]


def activity_types() -> list[str]:
    """Activity types, newest first."""
    return _read()[1]


def remember(
    user_ids: Iterable[UUID] = (), command: str = "", activity_types: Iterable[str] = ()
) -> None:
    """Put these first; what cannot be written is left."""
    wanted = [name for name in activity_types if _TYPE.fullmatch(name)][:LIMIT]
    label = f"{command} {datetime.now(UTC):%Y-%m-%d}"
    new_users = {str(user_id): label for user_id in user_ids}
    if not (new_users or wanted):
        return
    old_users, old_types = _read()
    merged = new_users | {user: label for user, label in old_users.items() if user not in new_users}
    data = {
        "users": dict(list(merged.items())[:LIMIT]),
        "activity_types": list(dict.fromkeys([*wanted, *old_types]))[:LIMIT],
    }
    with suppress(OSError):
        path = recent_path()
        make_private_folder(path.parent)
        replace_file(path, orjson.dumps(data), is_private=True, is_durable=False)


def _read() -> tuple[dict[str, str], list[str]]:
    try:
        with open(open_private(recent_path(), os.O_RDONLY), "rb") as file:
            data = orjson.loads(file.read(_LONGEST))
        found = {
            user: label
            for user, label in data["users"].items()
            if _USER.fullmatch(user) and _LABEL.fullmatch(label)
        }
        return found, [name for name in data["activity_types"] if _TYPE.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, []
