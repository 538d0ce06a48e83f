"""The filters of every command that reads, as one predicate and one selection."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.messages import Arrival, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which entries are wanted; with any part given, other messages are not."""

    activity_types: tuple[str, ...] = ()
    """Any of these, exactly; empty for all."""
    entity_type: str | None = None
    entity_id: UUID | None = None
    until: datetime | None = None
    """Only what occurred before it."""
    query: str | None = None
    """A JMESPath expression over the entry; kept when its result is true (or not empty)."""
    _query: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.query is not None:
            import jmespath

            try:
                object.__setattr__(self, "_query", jmespath.compile(self.query))
            except jmespath.exceptions.JMESPathError as error:
                reason = str(error).splitlines()[0]
                raise UsageMistake(f"--query is not a JMESPath expression: {reason}") from error

    @property
    def selects_all(self) -> bool:
        return not (
            self.activity_types
            or self.entity_type is not None
            or self.entity_id is not None
            or self.until is not None
            or self.query is not None
        )

    def selection(self, user_id: UUID | None) -> Selection:
        """What of it the database can decide."""
        return Selection(
            user_id=user_id,
            activity_types=self.activity_types,
            entity_type=self.entity_type,
            entity_id=self.entity_id,
        )

    def select(self, arrivals: list[Arrival]) -> list[Arrival]:
        """Those that are wanted."""
        if self.selects_all:
            return arrivals
        wanted = [(a, a.message) for a in arrivals if isinstance(a.message, Entry)]
        if self.activity_types:
            wanted = [pair for pair in wanted if pair[1].activity_type in self.activity_types]
        if self.entity_type is not None:
            wanted = [pair for pair in wanted if pair[1].entity_type == self.entity_type]
        if self.entity_id is not None:
            entity_id = str(self.entity_id)
            wanted = [pair for pair in wanted if pair[1].entity_id == entity_id]
        if self.until is not None:
            wanted = [pair for pair in wanted if pair[1].occurred_at < self.until]
        if self._query is not None:
            wanted = [pair for pair in wanted if self._answers(pair[1])]
        return [arrival for arrival, _ in wanted]

    def _answers(self, entry: Entry) -> bool:
        import jmespath

        try:
            return bool(self._query.search(entry.to_dict()))
        except jmespath.exceptions.JMESPathError:
            return False  # the expression does not apply to this entry's types
