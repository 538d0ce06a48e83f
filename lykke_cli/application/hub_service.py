"""A hub beside what carries out what it says: its readers, its channels and its reads."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from uuid import UUID

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import MultiplexedSubscription
from lykke_cli.application.hub import Hub
from lykke_cli.application.hub_actions import Action, Passed, Request, Subscribe, Unsubscribe, Wake
from lykke_cli.application.hub_channels import HubChannels
from lykke_cli.application.hub_reads import Reads, Told
from lykke_cli.application.reader import Reader
from lykke_cli.domain.errors import LykkeError


class Waiting(Protocol):
    """Who waits for what a reader is to be sent."""

    def wake(self) -> None:
        """There may be something new."""
        ...

    def refuse(self, error: Exception) -> None:
        """There will be nothing more, for this reason."""
        ...


class HubService:
    """Does what the hub asks for.

    `told` and `noticed` are as in `Reads`, `passed` is told what a pass missed.
    """

    def __init__(
        self,
        link: MultiplexedSubscription,
        histories: Sequence[HistoryProtocol],
        told: Told,
        noticed: Callable[[str], None],
        passed: Callable[[int], None],
    ) -> None:
        self.hub = Hub(vouched=histories[0].vouched)
        self._passed = passed
        self.channels = HubChannels(link, AUDIT_LOG, self._confirmed, self._not_permitted)
        self.reads = Reads(self.hub, histories, self.carry_out, told, noticed)
        self.readers: dict[Reader, Waiting] = {}
        self.error: Exception | None = None
        self._whole_until: float | None = None  # by the loop's clock; None: nothing is missing

    def check(self) -> None:
        """Raises what ended it, where it has ended."""
        if self.error is not None:
            raise self.error

    def joined(self, reader: Reader, waiting: Waiting, filters: Filters) -> None:
        self.readers[reader] = waiting
        self.reads.filter(reader, filters)
        self.channels.try_again(reader.user_id)

    def left(self, reader: Reader) -> None:
        if self.readers.pop(reader, None) is not None:
            self.reads.forget(reader)
            self.carry_out(self.hub.leave(reader))

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Do what the hub says."""
        for action in actions:
            match action:
                case Wake(readers):
                    for reader in readers:
                        if (waiting := self.readers.get(reader)) is not None:
                            waiting.wake()
                case Request():
                    self.reads.ask(action)
                case Subscribe(user_id):
                    self.channels.follow(user_id)
                case Unsubscribe(user_id):
                    self.channels.leave(user_id)
                case Passed(missed):
                    self._passed(missed)

    def fail(self, error: Exception) -> None:
        """End everything; whoever waits is told why."""
        self.error = self.error or error
        for waiting in self.readers.values():
            waiting.refuse(self.error)

    def note_lag(self) -> None:
        if self.hub.is_whole and self.reads.failure is None:
            self._whole_until = None
        elif self._whole_until is None:
            self._whole_until = asyncio.get_running_loop().time()

    @property
    def lag(self) -> float:
        """For how many seconds something may have been missing."""
        if self._whole_until is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._whole_until

    def _confirmed(self, users: Iterable[UUID | None]) -> None:
        self.carry_out(self.hub.confirmed(users))

    def _not_permitted(self, user_id: UUID | None, error: LykkeError) -> None:
        for reader, waiting in self.readers.items():
            if reader.user_id == user_id:
                waiting.refuse(error)
