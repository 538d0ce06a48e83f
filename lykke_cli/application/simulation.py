"""Realistic activity of some users, for the demo: reproducible from a seed."""

import random
import uuid
from datetime import UTC, datetime

from lykke_cli.domain.audit_log import ActivityType, AuditLogEntity

_TASKS = (
    "Water the plants",
    "Call the dentist",
    "Review the budget",
    "Plan the offsite",
    "Write the release notes",
    "Pay the rent",
    "Book the train to Århus",
    "Læs en bog",
)
_MESSAGES = (
    "On my way",
    "Done, have a look",
    "Can we move this to Thursday?",
    "Tak for i dag!",
    "The report is attached",
)


class Simulation:
    """So many people, each with a user id; the same seed gives the same ones."""

    def __init__(self, users: int, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.users = [self._uuid() for _ in range(users)]

    def activity(self, user: uuid.UUID) -> AuditLogEntity:
        kind = self._random.choices(tuple(ActivityType), weights=(5, 2, 3, 3))[0]
        if kind in (ActivityType.TASK_COMPLETED, ActivityType.TASK_PUNTED):
            entity_type = "task"
            meta: dict[str, object] = {"title": self._random.choice(_TASKS)}
            if kind is ActivityType.TASK_COMPLETED:
                meta["minutes"] = self._random.randint(2, 90)
            else:
                meta["days"] = self._random.randint(1, 7)
        else:
            entity_type = "message"
            meta = {"channel": self._random.choice(("sms", "email", "app"))}
            meta["text"] = self._random.choice(_MESSAGES)
        return AuditLogEntity(
            user_id=user,
            activity_type=kind,
            occurred_at=datetime.now(UTC),
            entity_id=self._uuid(),
            entity_type=entity_type,
            meta=meta,
            id=self._uuid(),
        )

    def pause(self, mean: float) -> float:
        """Seconds until the next activity, when they are `mean` seconds apart."""
        return min(self._random.expovariate(1 / mean), 4 * mean)

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)
