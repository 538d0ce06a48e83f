"""What a hub tells its driver to do."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from lykke_cli.application.merge import Read, Verify
from lykke_cli.application.reader import Reader


class Subscribe(msgspec.Struct, frozen=True):
    """Follow the user's channel, or with None every user's; answer with `confirmed`."""

    user_id: UUID | None


class Unsubscribe(msgspec.Struct, frozen=True):
    """Follow it no longer."""

    user_id: UUID | None


class Request(msgspec.Struct, frozen=True, eq=False):
    """Ask history about these users; answer with `chunk`, `verified` or `failed`."""

    users: Sequence[UUID] | None
    """None: all there are."""
    what: Read | Verify
    reader: Reader | None = None
    """Who asks; None: the hub, for all. With a cursor of None the reader's `since` and `last`
    count."""


class Wake(msgspec.Struct, frozen=True, gc=False):
    """There may be something for the readers to `take`."""

    readers: Sequence[Reader]


class Passed(msgspec.Struct, frozen=True):
    """A pass over all users is complete."""

    missed: int
    """Entries it found that should have come live: their users' channels were followed."""


Action = Subscribe | Unsubscribe | Request | Wake | Passed
