"""Where streams are read from by whoever comes back to them; pure decisions.

A stream is what it was up to a position as long as the entry of that position is in it. It is not
there any more when it was trimmed, and others behind it perhaps with it; when the stream was
deleted; and when a fail-over has set the stream back, after which new entries may have got ids that
lie before the position. Which of these it was cannot be told, so something may be missing.

Reading goes on behind the newest entry up to the position, all the same. Where the front is gone
that is the beginning of what is there; where the end is gone, the new end, and nothing that was
read comes again, unless somebody writes it again.
"""

from collections.abc import Mapping, Set
from typing import NamedTuple

from lykke_cli.application.gateways.pubsub_protocol import Position
from lykke_cli.application.stream_ids import StreamId


class Starts(NamedTuple):
    """Behind which entry of each stream to begin."""

    ids: dict[str, StreamId]
    missing: str | None = None
    """Why there may have been others between it and the position, in words."""


def starts(after: Position, newest: Mapping[str, StreamId], trimmed: Set[str]) -> Starts:
    """Where to read on `after` there, in streams of which each has this `newest` entry up to it.

    That is NO_ID where it has none. `trimmed` are those that were empty at the position (or are
    not in it), and of which entries were removed since.
    """
    ids = dict(newest)
    for stream, id in ids.items():
        if stream in trimmed or id != after.ids.get(stream):
            return Starts(ids, f"{stream} no longer has all that came since it was read")
    return Starts(ids)
