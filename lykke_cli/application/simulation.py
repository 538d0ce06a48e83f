"""People at work, for the demo: the same ones, with a past as likely, every time."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lykke_cli.domain.audit_log import ActivityType, AuditLogEntity

_NAMES = ("anna", "bilal", "chiara", "dmitri", "elif", "freja", "george", "hana", "ines", "jonas")
_FIRST_ID = uuid.UUID("3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10")  # the documentation's user
_MESSAGE_FAILED = "MESSAGE_FAILED"
_KINDS = {
    ActivityType.TASK_COMPLETED: 10,
    ActivityType.TASK_PUNTED: 4,
    ActivityType.MESSAGE_SENT: 6,
    ActivityType.MESSAGE_RECEIVED: 6,
    _MESSAGE_FAILED: 1,
}
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
_TASKS_AT_HAND = 3  # of each person
_BUSIEST = 40  # activities on a working day
_BUSY_HOURS = (1, 0, 0, 0, 0, 1, 2, 4, 8, 9, 9, 8, 5, 7, 9, 8, 7, 5, 3, 2, 3, 3, 2, 1)
_WEEKEND = 0.25  # of a working day


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the application, as its table of users knows them."""

    id: uuid.UUID
    email: str


class Simulation:
    """Ten people; the same seed gives the same ones, and the same choices."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        ids = [_FIRST_ID, *(self._uuid() for _ in _NAMES[1:])]
        self.people = [
            Person(id, f"{name}@example.com") for id, name in zip(ids, _NAMES, strict=True)
        ]
        self._at_hand = {
            person.id: [self._task() for _ in range(_TASKS_AT_HAND)] for person in self.people
        }

    def activity(self, person: Person, occurred_at: datetime) -> AuditLogEntity:
        """What `person` may do next."""
        [kind] = self._random.choices(list(_KINDS), weights=list(_KINDS.values()))
        if kind in (ActivityType.TASK_COMPLETED, ActivityType.TASK_PUNTED):
            entity_type = "task"
            entity_id, meta = self._work_on_a_task(person, is_done=kind == "TASK_COMPLETED")
        else:
            entity_type, entity_id = "message", self._uuid()
            meta = {"channel": self._random.choice(("sms", "email", "app"))}
            if kind == _MESSAGE_FAILED:
                meta["error"] = "the recipient is not known"
            else:
                meta["text"] = self._random.choice(_MESSAGES)
        return AuditLogEntity(
            user_id=person.id,
            activity_type=kind,
            occurred_at=occurred_at,
            entity_id=entity_id,
            entity_type=entity_type,
            meta=meta,
            id=self._uuid(),
        )

    def history(self, days: int, until: datetime) -> list[AuditLogEntity]:
        """What everybody did in the `days` before `until`, the oldest first."""
        moments = [
            (moment, number, person)
            for number, person in enumerate(self.people)
            for moment in self._moments(_BUSIEST / (number + 1), days, until)
        ]
        return [self.activity(person, moment) for moment, _, person in sorted(moments)]

    def pause(self, mean: float) -> float:
        """Seconds until the next activity, when they are `mean` seconds apart."""
        return min(self._random.expovariate(1 / mean), 4 * mean)

    def _moments(self, mean: float, days: int, until: datetime) -> Iterator[datetime]:
        """Those of one person who does `mean` things on a working day."""
        midnight = until.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        for day in range(days + 1):
            start = midnight - timedelta(days=day)
            usual = mean * (_WEEKEND if start.weekday() >= 5 else 1)
            for hour in self._random.choices(
                range(24), weights=_BUSY_HOURS, k=round(self._random.uniform(0.6, 1.4) * usual)
            ):
                moment = start + timedelta(hours=hour, seconds=self._random.uniform(0, 3600))
                if until - timedelta(days=days) <= moment < until:
                    yield moment

    def _work_on_a_task(
        self, person: Person, *, is_done: bool
    ) -> tuple[uuid.UUID, dict[str, object]]:
        """A task that is put off stays at hand; one that is done makes room for the next."""
        tasks = self._at_hand[person.id]
        number = self._random.randrange(len(tasks))
        id, title = tasks[number]
        if not is_done:
            return id, {"title": title, "days": self._random.randint(1, 7)}
        tasks[number] = self._task()
        return id, {"title": title, "minutes": self._random.randint(2, 90)}

    def _task(self) -> tuple[uuid.UUID, str]:
        return self._uuid(), self._random.choice(_TASKS)

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)
