"""What each reader owes, and what it must not do: decided from what was recorded, without waiting.

All moments are of one monotonic clock, in seconds. A reader's runs make up lives: a life begins
where it starts without a place to go on from, and within a life everything owed is printed exactly
once. What excuses an exception is kept narrow: a SIGKILL (a few seconds of repetition on stdout),
and a notice on stderr where the database gave a reason for doubt (repetition, and old entries).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from tests.nemesis.plan import Reader

KILL_SLACK = (
    4.0  # seconds before a SIGKILL whose lines stdout may repeat: 1 promised, and a slow disk
)
OVERLAP = timedelta(minutes=50)
"""What is older need not be found again when a place did not fit: it is read by time."""
FIRST_USE = timedelta(hours=24)  # what `backfill` reads without a place

_BUG = re.compile(r"Traceback|\bbug\b|never retrieved|never awaited|Segmentation")
_DOUBT = re.compile(r"second time|twice|reading again|once more", re.IGNORECASE)
NO_PLACE = re.compile(r"no place (is|was) stored yet")
MOST_NAMED = 3  # ids in a text

Kind = Literal[
    "lost",
    "twice",
    "early",
    "unknown",
    "altered",
    "hang",
    "bug",
    "ended",
    "status",
    "forgot",
    "damaged",
    "harm",
]


class Fact(msgspec.Struct):
    """An entry that the application wrote, or tried to, or that somebody made up."""

    id: str
    occurred: datetime
    n: int
    """A number in its meta: what is printed must be the same."""
    begun: float | None = None
    """When COMMIT was sent; None: never."""
    committed: float | None = None
    """When it was acknowledged."""
    published: list[float] = msgspec.field(default_factory=list)
    gone: float | None = None
    """When it was found to be missing: a lossy fail-over, a crash, a restored backup."""


class Line(msgspec.Struct, frozen=True):
    """An entry that came out of a reader."""

    at: float
    id: str
    n: int | None


class Run(msgspec.Struct):
    """One process of a reader."""

    command: Literal["tail", "backfill"]
    spawned: float
    origin: bool = False
    """It began anew, without a place to go on from."""
    since: datetime | None = None
    """Where it then began in history; None: it did not."""
    last: int = 0
    """It then began with the newest so many."""
    ready: float | None = None
    """When it said that it follows; for a backfill, when it had ended well."""
    ended: float | None = None
    status: int | None = None
    signal: str | None = None
    unsure: float | None = None
    """With SIGKILL: since when it may not have been able to keep its place (killed, or stopped)."""
    lines: list[Line] = msgspec.field(default_factory=list)
    stderr: str = ""
    faults: bool = False
    """A server was away, or went, while it ran."""
    database_faults: bool = False
    disk_full: bool = False
    behind: bool = False
    """It read a standby that may lag."""
    hung: str | None = None
    """What it did not do in time."""


class Consumer(msgspec.Struct):
    """All that is known of one reader."""

    reader: Reader
    runs: list[Run] = msgspec.field(default_factory=list)
    state_lost: list[float] = msgspec.field(default_factory=list)
    file: list[Line] | None = None
    """What is in the file (all its parts) at the end."""
    damage: list[str] = msgspec.field(default_factory=list)
    """What is wrong with the bytes of the file."""
    is_rival: bool = False
    contested: bool = False
    """Two write its file, or tried to: one of them is refused."""
    respelled: bool = False
    failures: list[str] = msgspec.field(default_factory=list)
    """Expectations of its own that were not met, such as an exit code."""


class World(msgspec.Struct):
    """The truth."""

    facts: dict[str, Fact] = msgspec.field(default_factory=dict)
    table: set[str] = msgspec.field(default_factory=set)
    """Ids in the table at the end."""
    doubts: list[float] = msgspec.field(default_factory=list)
    """When the database gave a reason to doubt a place: a restart, a crash, a fail-over."""
    replays: list[float] = msgspec.field(default_factory=list)
    """When entries began to be published again."""
    harm: list[str] = msgspec.field(default_factory=list)
    """What the application could not do because of a reader."""


class Violation(msgspec.Struct, frozen=True):
    kind: Kind
    reader: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reader}: {self.text}"


def judge(world: World, consumers: Iterable[Consumer]) -> list[Violation]:
    """Everything that was not as promised."""
    found = [Violation("harm", "application", text) for text in world.harm]
    for consumer in consumers:
        found += _processes(consumer)
        if consumer.reader.kind == "range":
            for run in consumer.runs:
                found += _range(world, consumer, run)
        elif consumer.file is not None:
            found += _file(world, consumer, consumer.file)
        elif not consumer.is_rival and consumer.reader.kind == "stream":
            for life in _lives(consumer):
                found += _life(world, consumer, life)
    return found


def missing(world: World, consumer: Consumer, printed: Iterable[str]) -> list[str]:
    """Ids that the reader's present life owes and that are not among `printed`."""
    lives = list(_lives(consumer))
    if not lives or consumer.is_rival:
        return []
    have = set(printed)
    return [fact.id for fact in _owed(world, lives[-1]) if fact.id not in have]


def _lives(consumer: Consumer) -> Iterator[list[Run]]:
    life: list[Run] = []
    for run in consumer.runs:
        if run.origin and life:
            yield life
            life = []
        life.append(run)
    if life:
        yield life


def _processes(consumer: Consumer) -> Iterator[Violation]:
    name = consumer.reader.name
    for text in consumer.failures:
        yield Violation("status", name, text)
    for text in consumer.damage:
        yield Violation("damaged", name, text)
    previous: Run | None = None
    for run in consumer.runs:
        if run.hung is not None:
            yield Violation("hang", name, f"{run.command}: {run.hung}")
        if _BUG.search(run.stderr) or run.status == 1:
            said = [line for line in run.stderr.splitlines() if _BUG.search(line)]
            text = said[0] if said else _last_line(run.stderr)
            yield Violation("bug", name, f"{run.command} ended with {run.status}: {text}")
        elif not _may_end(consumer, run):
            text = f"{run.command} ended with {run.status}: {_last_line(run.stderr)}"
            yield Violation("ended", name, text)
        if previous is not None and NO_PLACE.search(run.stderr):
            if not _may_forget(consumer, run):
                yield Violation("forgot", name, f"{run.command} found no place to go on from")
        previous = run


def _may_end(consumer: Consumer, run: Run) -> bool:
    """Whether this end needs no explanation, or has one."""
    if run.status is None or run.signal is not None or run.hung is not None:
        return True
    if run.status == 0:
        return run.command == "backfill"
    if not run.stderr.strip():
        return False
    if run.status == 3 and (run.database_faults or (run.faults and run.ready is None)):
        return True
    if run.status == 5 and run.disk_full:
        return True
    refused = consumer.contested or consumer.respelled or bool(consumer.state_lost)
    return refused and consumer.reader.kind != "range" and run.status in (2, 3, 4, 5)


def _may_forget(consumer: Consumer, run: Run) -> bool:
    if any(lost < run.spawned for lost in consumer.state_lost):
        return True
    earlier = [r for r in consumer.runs if r.spawned < run.spawned]
    return not any(r.ready is not None and not _was_killed_early(r) for r in earlier)


def _was_killed_early(run: Run) -> bool:
    if run.signal != "KILL" or run.ready is None:
        return False
    return run.unsure is None or run.unsure - run.ready < KILL_SLACK


def _life(world: World, consumer: Consumer, life: list[Run]) -> Iterator[Violation]:
    lines = [(run, line) for run in life for line in run.lines]
    yield from _forbidden(world, consumer, life[0], [line for _, line in lines])
    yield from _repeated(world, consumer, life, lines)
    if life[-1] is consumer.runs[-1]:
        yield from _losses(world, consumer, life, {line.id for _, line in lines})


def _file(world: World, consumer: Consumer, lines: list[Line]) -> Iterator[Violation]:
    if not consumer.runs:
        return
    yield from _forbidden(world, consumer, consumer.runs[0], lines)
    counts = Counter(line.id for line in lines)
    twice = [id for id, count in counts.items() if count > 1 and not _made_up(world, id)]
    if twice and not any(_excused(world, run) for run in consumer.runs):
        yield Violation(
            "twice",
            consumer.reader.name,
            f"{len(lines)} lines in the file, {len(counts)} distinct, such as {_named(twice)}",
        )
    lives = list(_lives(consumer))
    refused = consumer.runs[-1].status not in (0, None) and consumer.runs[-1].signal is None
    if not refused:
        yield from _losses(world, consumer, lives[-1], set(counts))


def _range(world: World, consumer: Consumer, run: Run) -> Iterator[Violation]:
    name = consumer.reader.name
    counts = Counter(line.id for line in run.lines)
    twice = [id for id, count in counts.items() if count > 1]
    if twice and not _excused(world, run):
        yield Violation("twice", name, f"in one range: {_named(twice)}")
    strange = [id for id in counts if (fact := world.facts.get(id)) is None or fact.begun is None]
    if strange:
        yield Violation("unknown", name, f"never committed: {_named(strange)}")
    if run.status != 0 or run.signal is not None or run.behind or run.since is None:
        return
    lost = [
        fact.id
        for fact in world.facts.values()
        if fact.id in world.table
        and fact.id not in counts
        and fact.committed is not None
        and fact.committed < run.spawned
        and fact.occurred >= run.since
    ]
    if lost:
        yield Violation("lost", name, f"{len(lost)} of a range, such as {_named(lost)}")


def _forbidden(
    world: World, consumer: Consumer, origin: Run, lines: Sequence[Line]
) -> Iterator[Violation]:
    """What was never committed, or is from before the start, or is not what was written."""
    name = consumer.reader.name
    unknown, early, altered = [], [], []
    newest = _newest(world, origin)
    for line in lines:
        fact = world.facts.get(line.id)
        if fact is None or (fact.begun is None and not fact.published):
            unknown.append(line.id)
        elif not _permitted(world, origin, fact, newest):
            early.append(line.id)
        elif line.n != fact.n:
            altered.append(line.id)
    if unknown:
        yield Violation("unknown", name, f"never committed: {_named(unknown)}")
    if early:
        text = f"{len(set(early))} from before the start, such as {_named(early)}"
        yield Violation("early", name, text)
    if altered:
        yield Violation("altered", name, f"not as it was written: {_named(altered)}")


def _permitted(world: World, origin: Run, fact: Fact, newest: set[str]) -> bool:
    if fact.committed is None or fact.committed >= origin.spawned or origin.behind:
        return True
    if any(at >= origin.spawned for at in (*fact.published, *world.replays)):
        return True
    return fact.id in newest or (origin.since is not None and fact.occurred >= origin.since)


def _newest(world: World, origin: Run) -> set[str]:
    """What `-n` begins with."""
    if not origin.last:
        return set()
    there = [
        fact
        for fact in world.facts.values()
        if fact.committed is not None
        and fact.committed < origin.spawned
        and (fact.gone is None or fact.gone > origin.spawned)
    ]
    there.sort(key=lambda fact: (fact.occurred, fact.id))
    return {fact.id for fact in there[-origin.last :]}


def _owed(world: World, life: list[Run]) -> Iterator[Fact]:
    origin = life[0]
    begins = origin.spawned if origin.command == "backfill" else origin.ready
    if origin.ready is None:
        return
    newest = _newest(world, origin)
    if any(origin.spawned < (f.committed or 0) < origin.ready for f in world.facts.values()):
        newest = set()  # what came meanwhile may have taken their place
    by_time = any(_excused(world, run) for run in life)
    last = max((fact.occurred for fact in world.facts.values()), default=None)
    for fact in world.facts.values():
        if fact.id not in world.table or fact.begun is None:
            continue
        if by_time and last is not None and fact.occurred < last - OVERLAP:
            continue
        if begins is not None and fact.begun > begins:
            yield fact
        elif fact.committed is not None and fact.committed < origin.spawned and not origin.behind:
            if fact.id in newest or (origin.since and fact.occurred >= origin.since):
                yield fact


def _losses(
    world: World, consumer: Consumer, life: list[Run], printed: set[str]
) -> Iterator[Violation]:
    if consumer.is_rival:
        return
    owed = list(_owed(world, life))
    lost = [fact.id for fact in owed if fact.id not in printed]
    if lost:
        text = f"{len(lost)} of {len(owed)} owed, such as {_named(lost)}"
        yield Violation("lost", consumer.reader.name, text)


def _repeated(
    world: World, consumer: Consumer, life: list[Run], lines: Sequence[tuple[Run, Line]]
) -> Iterator[Violation]:
    first: dict[str, tuple[Run, Line]] = {}
    twice: list[str] = []
    for run, line in lines:
        if line.id not in first or _made_up(world, line.id):
            first[line.id] = (run, line)
            continue
        before, earlier = first[line.id]
        killed = before is not run and before.signal == "KILL" and before.unsure is not None
        if killed and earlier.at >= (before.unsure or 0) - KILL_SLACK:
            continue
        until = life[: life.index(run) + 1]
        if any(_excused(world, r) for r in until):
            continue
        twice.append(line.id)
    if twice:
        distinct = len({line.id for _, line in lines})
        text = f"{len(twice)} of {distinct}, such as {_named(twice)}"
        yield Violation("twice", consumer.reader.name, text)


def _made_up(world: World, id: str) -> bool:
    """Published, and in no table: nothing tells a reader that it saw it before."""
    fact = world.facts.get(id)
    return fact is not None and (fact.begun is None or fact.gone is not None)


def _excused(world: World, run: Run) -> bool:
    """Whether it said that it had a doubt, and there was a reason."""
    if not _DOUBT.search(run.stderr):
        return False
    return any(run.ended is None or at < run.ended for at in world.doubts)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(nothing on stderr)"


def _named(ids: Sequence[str]) -> str:
    return ", ".join(list(dict.fromkeys(ids))[:MOST_NAMED])


def kinds(violations: Iterable[Violation]) -> Mapping[Kind, int]:
    return Counter(violation.kind for violation in violations)
