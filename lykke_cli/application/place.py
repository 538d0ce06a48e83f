"""A consumer's place between runs: what the merge needs to go on, as plain JSON."""

import time
from collections.abc import Sequence
from typing import Any

from lykke_cli.application.gateways.cursor_protocol import CursorStoreProtocol
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, Entry, EntryBatch, format_time, parse_wire_time

SAVE_INTERVAL = 1.0  # seconds between two savings while a run goes on
MANY = 50  # entries that are worth a dictionary of their own
PAUSE = 20  # times as long as the last saving took, at least: a slow disk does not slow the run


class Place:
    """Keeps a checkpoint up to date with what was written, and stores it.

    The merge's checkpoints come now and then; the ids written since the last one are added to it,
    so that it can be stored at any moment.
    """

    def __init__(self, store: CursorStoreProtocol) -> None:
        self._store = store
        self._checkpoint: Checkpoint | None = None
        self._since: list[dict[str, str]] = [{}]  # ids, with their occurred_at
        self._saved_at = -SAVE_INTERVAL  # the first is saved at once
        self._saving_took = 0.0
        self.output: dict[str, Any] = {}
        """What the output wants to be stored beside it."""

    def load(self) -> Checkpoint | None:
        """The stored checkpoint; None on first use or when it cannot be understood."""
        state = self._store.load()
        if state is None:
            return None
        try:
            stored = state["checkpoint"]
            floor = stored["floor"]
            self._checkpoint = Checkpoint(
                Cursor(dict(stored["cursor"])),
                {id: _time(at) for id, at in stored["pending"].items()},
                None if floor is None else _time(floor),
            )
            self.output = dict(state["output"])
        except (KeyError, TypeError, ValueError, AttributeError):
            self._store.set_aside()
            self._checkpoint = None
        return self._checkpoint

    def wrote_before(self, ids: dict[str, str]) -> Checkpoint | None:
        """Entries were found in the output which the stored checkpoint does not know."""
        self._since[0] |= ids
        return self.current()

    def wrote(self, arrivals: Sequence[Arrival]) -> None:
        """These have left the process."""
        if isinstance(arrivals, EntryBatch) and len(arrivals) >= MANY:
            self._since.append(arrivals.times)
            return
        entries = [a.message for a in arrivals if isinstance(a.message, Entry)]
        self._since[0] |= {entry.id: entry.occurred_at for entry in entries}

    def reached(self, checkpoint: Checkpoint) -> None:
        """All that `checkpoint` covers was written."""
        self._checkpoint = checkpoint
        self._since = [{}]

    @property
    def is_due(self) -> bool:
        """True when it is time to store it again."""
        return time.monotonic() - self._saved_at >= max(SAVE_INTERVAL, PAUSE * self._saving_took)

    def current(self) -> Checkpoint | None:
        checkpoint = self._checkpoint
        if checkpoint is None:
            return None
        pending = dict(checkpoint.pending)
        for times in self._since:
            pending |= times
        return Checkpoint(checkpoint.cursor, pending, checkpoint.floor)

    def save(self) -> None:
        """Store it; nothing happens before the first checkpoint."""
        checkpoint = self.current()
        if checkpoint is None:
            return
        started = time.monotonic()
        self._store.save(
            {
                "checkpoint": {
                    "cursor": checkpoint.cursor.data,
                    "pending": checkpoint.pending,
                    "floor": checkpoint.floor,
                },
                "output": self.output,
            }
        )
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - started


def _time(stored: str) -> str:
    """The stored time in the promised form; raises ValueError or TypeError."""
    return format_time(parse_wire_time(stored))
