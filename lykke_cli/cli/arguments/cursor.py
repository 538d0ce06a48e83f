"""`--cursor`: to begin where a client of a bridge stands."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.help_texts import env, range_option

if TYPE_CHECKING:
    from lykke_cli.application.merge import Checkpoint

FromCursor = Annotated[
    str | None,
    range_option(
        "--cursor",
        metavar="TEXT",
        help=f"First what came since this cursor of a bridge. Its key: {env('LYKKE_CURSOR_KEY')}",
    ),
]


def require_no_start(cursor: str | None, given: Mapping[str, bool]) -> None:
    """Raise UsageMistake for an option that says otherwise than a cursor where to begin."""
    for option in (name for name, is_given in given.items() if is_given and cursor is not None):
        raise UsageMistake(f"--cursor says where to begin: leave {option} out.")


def from_cursor(cursor: str | None, user_ids: Sequence[UUID]) -> "Checkpoint | None":
    """The place that a cursor of this user stands for.

    Raises UsageMistake where it cannot be opened here, CursorRefused where it is not to be trusted.
    """
    if cursor is None:
        return None
    if len(user_ids) != 1:
        raise UsageMistake("--cursor is one user's: name that user, and no other.")
    if find_spec("cryptography") is None:
        raise UsageMistake("--cursor needs a library: pip install cryptography.")
    from lykke_cli.infrastructure.configuration.cursor_key import CURSOR_KEY, cursor_keys
    from lykke_cli.infrastructure.sealed_cursors import SealedCursors

    keys = cursor_keys(os.environ)
    if keys is None:
        raise UsageMistake(
            f"--cursor is sealed: set {CURSOR_KEY}, or {CURSOR_KEY}_FILE, to the key of the bridge "
            "that it comes from."
        )
    return SealedCursors(keys).open(user_ids[0], cursor)
