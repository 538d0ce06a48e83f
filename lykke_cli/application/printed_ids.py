"""Which entries were printed, as far as a message that comes may be one of them.

`merge.py` explains the words. An entry is a dictionary's item here: its id, and its occurred_at.
"""

from collections.abc import KeysView, Mapping, Sequence

from lykke_cli.application.gateways.history_protocol import HistoryChunk, HistoryRow


class PrintedIds:
    """The ids of printed entries: all that a read may still return, and the latest of the others.

    `pending` and `floor` are those of a checkpoint, when a run goes on from one. Of the settled
    entries' ids at most `keep` are kept.
    """

    def __init__(
        self, pending: Mapping[str, str] | None = None, floor: str | None = None, *, keep: int
    ) -> None:
        self._keep = keep
        self._pending = dict(pending or {})
        self._awaiting: dict[str, str] = {}
        self._settled: dict[str, str] = {}
        self._floor = floor
        self.latest = floor
        """The latest occurred_at that was ever settled: the floor of who remembers none of them."""
        self._in_portions = frozenset[str]()  # printed before everything began to be read
        self._asked = 0  # of the unconfirmed, when the read under way was asked for
        self.unconfirmed = 0
        """How many live entries were printed since a read last began that has not failed."""

    def __len__(self) -> int:
        return len(self._pending) + len(self._awaiting) + len(self._settled)

    @property
    def unsettled(self) -> dict[str, str]:
        """The entries that a read from the cursor may return."""
        return self._pending | self._awaiting

    def knows(self, entries: Mapping[str, str]) -> bool:
        """True when one of the ids is remembered as printed."""
        return not are_disjoint(entries.keys(), self._pending, self._settled, self._awaiting)

    def in_doubt(self, entries: Mapping[str, str]) -> bool:
        """True when one of the entries may have been printed, though its id is not remembered."""
        return self._floor is not None and min(entries.values()) <= self._floor

    def note(self, entries: Mapping[str, str]) -> None:
        """Note entries that were printed as they came live."""
        self._pending.update(entries)
        self.unconfirmed += len(entries)

    def read_begins(self) -> None:
        """Note that a read begins: it may not see what is printed from now on."""
        self._awaiting, self._pending = self._pending, {}
        self._asked, self.unconfirmed = self.unconfirmed, 0

    def portions_began(self) -> None:
        """Note that everything has begun to be read, portion by portion, with the read under way.

        It is over, and what had been printed when it was asked for came before them all.
        """
        self._in_portions = frozenset(self._awaiting)

    def portions_ended(self, chunk: HistoryChunk) -> None:
        """Settle what was printed before and did not come in any of them; `chunk` is the last."""
        ids, self._in_portions = self._in_portions, frozenset()
        if chunk.authoritative:
            self._settle({id: self._pending.pop(id) for id in ids & self._pending.keys()})

    def read_returned(self, rows: Sequence[HistoryRow]) -> list[HistoryRow]:
        """Return the rows that were not printed before; all of the rows are settled now."""
        unknown = []
        for row in rows:
            known = row.id in self._settled
            for printed in (self._awaiting, self._pending):
                known |= printed.pop(row.id, None) is not None
            if not known:
                unknown.append(row)
        self._settle({row.id: row.occurred_at for row in rows})
        return unknown

    def read_ended(self, chunk: HistoryChunk, *, is_portion: bool = False) -> None:
        """Settle what the read could have returned and did not; `chunk` is its last one.

        A portion does not tell of a single entry that no read can return it: so none is confirmed.
        """
        settled, self._awaiting = self._awaiting, {}
        self.unconfirmed += self._asked if is_portion else 0
        self._asked = 0
        if not chunk.authoritative:  # the server may have it later
            self._pending |= settled
            return
        if (since := chunk.covered_from) is not None:
            for id in [id for id, at in settled.items() if at < since]:
                self._pending[id] = settled.pop(id)
        self._settle(settled)

    def read_failed(self) -> None:
        """Note that the read failed: the next one may return what it would have returned."""
        self._pending |= self._awaiting
        self._awaiting = {}
        self.unconfirmed += self._asked
        self._asked = 0

    def _settle(self, entries: dict[str, str]) -> None:
        """No read can return these again: their ids are kept while there is room."""
        if not entries:
            return
        latest = max(entries.values())
        self.latest = latest if self.latest is None else max(self.latest, latest)
        if len(self._settled) + len(entries) <= self._keep:
            self._settled |= entries
            return
        times = sorted([*self._settled.values(), *entries.values()])
        floor = times[-(self._keep // 2) - 1]  # not one by one: sorting takes its time
        self._floor = floor if self._floor is None else max(self._floor, floor)
        self._settled = {
            id: at for ids in (self._settled, entries) for id, at in ids.items() if at > floor
        }


def are_disjoint(ids: KeysView[str], *others: Mapping[str, object]) -> bool:
    """True when none of the ids is a key of any of the others."""
    return all(ids.isdisjoint(other.keys()) for other in others)
