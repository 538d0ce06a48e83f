"""What happens in one attack: readers and steps, drawn from a seed.

A plan is plain data, so that it can be printed, replayed and shortened. Every step may stand
anywhere: one that makes no sense where it is (thawing what is not frozen) does nothing.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Literal

import msgspec

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds
AGES = (0, 0, 0, 0, MINUTE, 70 * MINUTE, 3 * HOUR, 3 * DAY)
LONG_WAIT = 64.0  # seconds: longer than any statement may take

Sent = Literal["sent", "lost", "late", "doubled"]
Shape = Literal["plain", "savepoint", "half_rolled_back", "copy", "prepared", "rollback"]
SHAPES: tuple[Shape, ...] = (
    *("plain", "plain", "plain", "savepoint"),
    *("half_rolled_back", "copy", "prepared", "rollback"),
)
Spelling = Literal["plain", "localhost", "other_role"]
Via = Literal["socket", "events", "tail"]
RedisFault = Literal["kill", "freeze", "partition", "full", "cut"]
PostgresFault = Literal[
    "stop",
    "kill",
    "freeze",
    "partition",
    "terminate",
    "loosen",
    "crash",
    "backup",
    "restore",
    "unlink",
    "failover",
    "lag",
    "conflict",
    "to_standby",
    "to_primary",
]


class Write(msgspec.Struct, frozen=True, tag_field="do", tag="write", omit_defaults=True):
    """So many transactions (`times`) of so many entries that occurred `age` seconds ago."""

    shape: Shape = "plain"
    rows: int = 1
    times: int = 1
    age: int = 0
    sent: Sent = "sent"


class Fill(msgspec.Struct, frozen=True, tag_field="do", tag="fill", omit_defaults=True):
    """One transaction of many entries, none of them broadcast."""

    rows: int
    age: int = 90 * MINUTE
    pad: int = 0
    """So many bytes more in each."""
    apart: bool = False
    """Into a table of its own, which `Attach` makes a part of the application's."""


class Attach(msgspec.Struct, frozen=True, tag_field="do", tag="attach", omit_defaults=True):
    """What was filled in apart is in the table all at once."""


class Open(msgspec.Struct, frozen=True, tag_field="do", tag="open", omit_defaults=True):
    """A transaction that stays open; `elsewhere` in another database of the cluster."""

    name: str
    rows: int = 1
    age: int = 0
    elsewhere: bool = False
    savepoint: bool = False


class Close(msgspec.Struct, frozen=True, tag_field="do", tag="close", omit_defaults=True):
    name: str
    how: Literal["commit", "rollback", "prepare"] = "commit"
    sent: Sent = "sent"


class Forge(msgspec.Struct, frozen=True, tag_field="do", tag="forge", omit_defaults=True):
    """What nobody committed is published: an entry, a known id again, something else."""

    what: Literal["entry", "known_id", "garbage", "other"]


class SendLate(msgspec.Struct, frozen=True, tag_field="do", tag="send_late", omit_defaults=True):
    """What was held back is broadcast."""


class Start(msgspec.Struct, frozen=True, tag_field="do", tag="start", omit_defaults=True):
    """The reader is started, or goes on: by `lykke tail`, or by `lykke backfill`."""

    reader: str
    by: Literal["tail", "backfill"] = "tail"
    spelling: Spelling = "plain"
    stalled: bool = False
    """Nobody reads its output yet, nor waits for its end."""


class Signal(msgspec.Struct, frozen=True, tag_field="do", tag="signal", omit_defaults=True):
    reader: str
    name: Literal["INT", "TERM", "HUP", "KILL"] = "KILL"


class Freeze(msgspec.Struct, frozen=True, tag_field="do", tag="freeze", omit_defaults=True):
    reader: str


class Thaw(msgspec.Struct, frozen=True, tag_field="do", tag="thaw", omit_defaults=True):
    reader: str


class Stall(msgspec.Struct, frozen=True, tag_field="do", tag="stall", omit_defaults=True):
    """Its output is not read from now on."""

    reader: str


class Flow(msgspec.Struct, frozen=True, tag_field="do", tag="flow", omit_defaults=True):
    """Its output is read again; `slowly` a few kilobytes at a time."""

    reader: str
    slowly: bool = False


class Wait(msgspec.Struct, frozen=True, tag_field="do", tag="wait", omit_defaults=True):
    seconds: float


class Redis(msgspec.Struct, frozen=True, tag_field="do", tag="redis", omit_defaults=True):
    fault: RedisFault


class Postgres(msgspec.Struct, frozen=True, tag_field="do", tag="postgres", omit_defaults=True):
    fault: PostgresFault


class Net(msgspec.Struct, frozen=True, tag_field="do", tag="net", omit_defaults=True):
    """The network before a bridge: a connection is cut in mid-frame, or all fall silent."""

    reader: str
    fault: Literal["cut", "partition", "mend"]
    after: int = 0
    """So many bytes later."""


class Heal(msgspec.Struct, frozen=True, tag_field="do", tag="heal", omit_defaults=True):
    """The server is well and reachable again, its standby linked and up to date."""

    what: Literal["redis", "postgres"]


class File(msgspec.Struct, frozen=True, tag_field="do", tag="file", omit_defaults=True):
    """logrotate comes (in one of its ways), or the disk is full, or it has room again."""

    reader: str
    what: Literal["move", "copytruncate", "full", "room"]


class LoseState(msgspec.Struct, frozen=True, tag_field="do", tag="lose_state", omit_defaults=True):
    """The state folder of a reader that does not run is emptied."""

    reader: str


class Clock(msgspec.Struct, frozen=True, tag_field="do", tag="clock", omit_defaults=True):
    """The reader's wall clock is set so many seconds wrong."""

    reader: str
    offset: int


class Alter(msgspec.Struct, frozen=True, tag_field="do", tag="alter", omit_defaults=True):
    """The application alters its table and writes: a reader must not keep it waiting."""


class Expect(msgspec.Struct, frozen=True, tag_field="do", tag="expect", omit_defaults=True):
    """`lykke expect` runs, and so many entries are committed; 0 is `--none`."""

    rows: int = 1
    sent: Sent = "sent"


AnyStep = (
    Write
    | Fill
    | Attach
    | Open
    | Close
    | Forge
    | SendLate
    | Start
    | Signal
    | Freeze
    | Thaw
    | Stall
    | Flow
    | Wait
    | Redis
    | Postgres
    | Net
    | Heal
    | File
    | LoseState
    | Clock
    | Alter
    | Expect
)


class Reader(msgspec.Struct, frozen=True, omit_defaults=True):
    """One consumer; every start after the first goes on where the one before ended.

    A `stream` prints to a pipe, a `file` writes with --to-file, a `replay` publishes what it
    writes to a file, a `range` prints a range of time and is a reader of its own at every start.
    A `bridge` prints nothing: those with a `via` are its clients.
    """

    name: str
    kind: Literal["stream", "file", "replay", "range", "bridge"]
    via: Via | None = None
    """It reads through the plan's bridges: a WebSocket, an event stream, or `tail --from`."""
    workers: int = 1
    """Of a bridge."""
    on_uvloop: bool = False
    """A bridge is."""
    polls: bool = False
    """It is not kept running: `lykke backfill` now and then."""
    since: int | None = None
    """The first start begins so many seconds ago."""
    last: int | None = None
    """The first start begins with the newest so many."""
    reconcile: str = "30s"
    narrow: bool = False
    """Its pipe holds one page only, so that it stalls at once."""
    rotates: bool = False
    """--rotate and --compress."""
    file_of: str | None = None
    """Writes the file of this reader, at the same time."""
    own_clock: bool = False


class Plan(msgspec.Struct, frozen=True):
    seed: int
    cluster: Literal["shared", "own", "pair"]
    """PostgreSQL: one for many plans, one for this, or one with a standby."""
    readers: tuple[Reader, ...]
    steps: tuple[AnyStep, ...]
    motifs: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """About how many seconds it takes."""
        fixed = {"shared": 4.0, "own": 6.0, "pair": 8.0}[self.cluster]
        waits = sum(s.seconds for s in self.steps if isinstance(s, Wait))
        return fixed + waits + 0.3 * len(self.steps)

    def with_steps(self, steps: tuple[AnyStep, ...]) -> "Plan":
        """The same with other steps, and without the readers that have none."""
        used = {getattr(step, "reader", None) for step in steps}
        named = used | {reader.file_of for reader in self.readers if reader.name in used}
        if any(reader.via for reader in self.readers if reader.name in named):
            named |= {reader.name for reader in self.readers if reader.kind == "bridge"}
        readers = tuple(reader for reader in self.readers if reader.name in named)
        return msgspec.structs.replace(self, steps=steps, readers=readers)


class Draft:
    """A plan being drawn: the dice, and the readers there are so far."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.readers: dict[str, Reader] = {}
        self._sessions = 0

    def one_of(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def reader(self, kind: str, **fields: object) -> Reader:
        """A new one."""
        name = f"{kind}{len(self.readers) + 1}"
        made = msgspec.convert({"name": name, "kind": kind, **fields}, Reader)
        self.readers[name] = made
        return made

    def consumer(self) -> Reader:
        """One of those that go on from a place."""
        return self.rng.choice([r for r in self.readers.values() if r.kind in ("stream", "file")])

    def file(self) -> Reader:
        """One that writes a file, made if there is none."""
        files = [r for r in self.readers.values() if r.kind == "file"]
        return self.rng.choice(files) if files else self.draw_consumer("file")

    def draw_consumer(self, kind: str) -> Reader:
        rng = self.rng
        since: int | None = rng.choice([10 * MINUTE, 2 * HOUR, 40 * DAY, 40 * DAY])
        last: int | None = None
        if kind == "stream":
            since, last = rng.choice([(None, None), (None, None), (None, 3), (since, None)])
        return self.reader(
            kind,
            polls=rng.random() < 0.35,
            since=since,
            last=last,
            reconcile=rng.choice(["1s", "30s", "30s"]),
            rotates=kind == "file" and rng.random() < 0.2,
            own_clock=rng.random() < 0.1,
        )

    def draw_client(self) -> Reader:
        """One that reads through a bridge."""
        rng = self.rng
        via: Via = rng.choice(["socket", "socket", "events", "tail"])
        since, last = rng.choice([(None, None), (None, 3), (2 * HOUR, None), (40 * DAY, None)])
        return self.reader(
            "file" if via == "tail" and rng.random() < 0.5 else "stream",
            via=via,
            since=since if via != "tail" else since or 2 * HOUR,
            last=last if via != "tail" else None,
            polls=via != "tail" and rng.random() < 0.15,
            narrow=rng.random() < 0.5,
        )

    def session(self) -> str:
        self._sessions += 1
        return f"t{self._sessions}"

    def sent(self) -> Sent:
        kinds: list[Sent] = ["sent", "sent", "lost", "lost", "late", "doubled"]
        return self.rng.choice(kinds)

    def write(self, **fields: object) -> Write:
        rng = self.rng
        drawn = {
            "shape": rng.choice(SHAPES),
            "rows": rng.choice([1, 1, 2, 5]),
            "times": rng.choice([1, 1, 2, 6]),
            "age": rng.choice(AGES),
            "sent": self.sent(),
        }
        return msgspec.convert({**drawn, **fields}, Write)

    def go_on(self, reader: Reader, **fields: object) -> Start:
        by = "backfill" if reader.polls or self.rng.random() < 0.2 else "tail"
        return msgspec.convert({"reader": reader.name, "by": by, **fields}, Start)

    def meanwhile(self, most: int = 3) -> Iterator[AnyStep]:
        """What an application and its operators do at any time."""
        rng = self.rng
        for _ in range(rng.randint(1, most)):
            dice = rng.random()
            consumer = self.consumer()
            if dice < 0.60:
                yield self.write()
            elif dice < 0.80 and consumer.polls:
                yield self.go_on(consumer)
            elif dice < 0.68:
                yield Signal(consumer.name, rng.choice(["INT", "TERM", "HUP", "KILL"]))
            elif dice < 0.84:
                yield self.go_on(consumer)
            elif dice < 0.92:
                yield Wait(rng.choice([0.2, 0.5, 1.2]))
            elif dice < 0.95:
                yield Forge(rng.choice(["entry", "known_id", "garbage", "other"]))
            else:
                yield SendLate()

    def polled(self) -> Iterator[AnyStep]:
        """Those that are not kept running run once."""
        for reader in list(self.readers.values()):
            if reader.polls and reader.kind in ("stream", "file"):
                yield self.go_on(reader)


Motif = Callable[[Draft], Iterator[AnyStep]]


def _redis_outage(draft: Draft) -> Iterator[AnyStep]:
    yield Redis(draft.rng.choice(["kill", "freeze", "partition", "full", "cut"]))
    yield from draft.meanwhile()
    yield Wait(draft.rng.choice([0.2, 1.5, 2.5]))
    yield Heal("redis")


def _postgres_outage(draft: Draft) -> Iterator[AnyStep]:
    yield Postgres(draft.rng.choice(["stop", "kill", "freeze", "partition", "terminate"]))
    yield from draft.meanwhile()
    yield Heal("postgres")


def _crash(draft: Draft) -> Iterator[AnyStep]:
    """With synchronous_commit=off the last commits are gone."""
    yield Postgres("loosen")
    for _ in range(draft.rng.randint(1, 3)):
        yield draft.write()
    yield from draft.polled()
    yield Postgres("crash")
    yield from draft.meanwhile()
    yield draft.write(times=draft.rng.choice([3, 12]))


def _failover(draft: Draft) -> Iterator[AnyStep]:
    if draft.rng.random() < 0.75:
        yield Postgres("unlink")
    for _ in range(draft.rng.randint(1, 3)):
        yield draft.write()
    yield from draft.polled()
    yield Postgres("failover")
    yield from draft.meanwhile()
    yield draft.write(times=draft.rng.choice([3, 12]))


def _restored_backup(draft: Draft) -> Iterator[AnyStep]:
    yield Postgres("backup")
    for _ in range(draft.rng.randint(1, 3)):
        yield draft.write()
    yield from draft.polled()
    yield Postgres("restore")
    yield from draft.meanwhile()
    yield draft.write(times=draft.rng.choice([3, 12]))


def _lagging_standby(draft: Draft) -> Iterator[AnyStep]:
    yield Postgres("lag")
    yield draft.write()
    yield from draft.meanwhile()
    yield from draft.polled()
    yield Postgres("to_standby")
    yield from draft.meanwhile()
    yield from draft.polled()
    if draft.rng.random() < 0.5:
        yield Heal("postgres")
        yield from draft.polled()
    if draft.rng.random() < 0.5:
        yield Postgres("to_primary")
        yield from draft.meanwhile()


def _recovery_conflict(draft: Draft) -> Iterator[AnyStep]:
    """A standby cancels who reads what its primary removes."""
    yield Postgres("to_standby")
    yield Fill(draft.rng.choice([500, 5_000]))
    yield from draft.polled()
    for _ in range(draft.rng.randint(2, 5)):
        yield Postgres("conflict")
        yield draft.write()
    yield from draft.meanwhile()
    yield Redis("cut")
    yield Postgres("conflict")
    if draft.rng.random() < 0.5:
        yield Postgres("to_primary")
        yield from draft.meanwhile()


def _attached(draft: Draft) -> Iterator[AnyStep]:
    """Committed before the last read, and in the table only since."""
    rng = draft.rng
    for _ in range(rng.randint(1, 2)):
        age = rng.choice([MINUTE, 90 * MINUTE, 3 * DAY])
        yield Fill(rng.choice([1, 20, 2_000]), age=age, apart=True)
        yield from draft.meanwhile()
        yield Redis("cut")
        yield from draft.polled()
        yield Wait(rng.choice([0.3, 1.5]))
        yield Attach()
        yield from draft.meanwhile()
        yield from draft.polled()


def _open_transaction(draft: Draft) -> Iterator[AnyStep]:
    rng = draft.rng
    name = draft.session()
    elsewhere = rng.random() < 0.3
    yield Open(
        name,
        rows=rng.choice([0, 1, 3]),
        age=rng.choice(AGES),
        elsewhere=elsewhere,
        savepoint=rng.random() < 0.4,
    )
    yield from draft.meanwhile()
    consumer = draft.consumer()
    if rng.random() < 0.5:
        yield Signal(consumer.name, "INT")
        yield draft.go_on(consumer)
    else:
        yield Redis("cut")
    yield from draft.meanwhile()
    if rng.random() < 0.3:
        yield Close(name, "prepare")
        yield from draft.meanwhile()
    yield Close(name, rng.choice(["commit", "commit", "rollback"]), sent=draft.sent())


def _killed_reader(draft: Draft) -> Iterator[AnyStep]:
    rng = draft.rng
    consumer = draft.consumer()
    yield draft.write(age=0)
    yield draft.write()
    yield Wait(rng.choice([0.1, 1.0, 6.0]))
    yield Signal(consumer.name, rng.choice(["KILL", "KILL", "HUP", "TERM", "INT"]))
    yield from draft.meanwhile()
    yield draft.go_on(consumer)


def _frozen_reader(draft: Draft) -> Iterator[AnyStep]:
    consumer = draft.consumer()
    yield Freeze(consumer.name)
    yield from draft.meanwhile()
    yield Wait(draft.rng.choice([0.3, 2.5]))
    yield Thaw(consumer.name)


def _stalled_reader(draft: Draft) -> Iterator[AnyStep]:
    """A pager that is not scrolled on, while something happens to the database."""
    rng = draft.rng
    rows, pad = rng.choice([(3_000, 0), (20_000, 0), *3 * [(9_000, 1_000)], (4_000, 4_000)])
    yield Fill(rows, pad=pad)
    if rng.random() < 0.7:
        reader = draft.reader("range", since=40 * DAY, narrow=True)
    else:
        reader = draft.reader(
            "stream", since=40 * DAY, narrow=True, polls=False, reconcile=rng.choice(["1s", "30s"])
        )
    yield Start(reader.name, stalled=True)
    yield Wait(rng.choice([0.3, 1.0]))
    if rng.random() < 0.5:
        yield Flow(reader.name, slowly=True)
        yield Wait(rng.choice([0.3, 1.0]))
    dice = rng.random()
    if dice < 0.4:
        yield Postgres(rng.choice(["terminate", "terminate", "kill", "stop"]))
        yield Heal("postgres")
    elif dice < 0.6:
        yield Alter()
    elif dice < 0.75:
        yield Wait(LONG_WAIT)
    elif dice < 0.85 and reader.kind == "stream":
        yield Signal(reader.name, "KILL")
        yield Start(reader.name)
    else:
        yield Wait(rng.choice([2.0, 4.0]))
    yield Flow(reader.name, slowly=rng.random() < 0.3)


def _replay(draft: Draft) -> Iterator[AnyStep]:
    yield Fill(draft.rng.choice([200, 400]))
    reader = draft.reader("replay", since=40 * DAY)
    yield Start(reader.name, by="backfill", stalled=True)
    yield Wait(draft.rng.choice([0.5, 0.8, 1.2]))
    yield Signal(reader.name, draft.rng.choice(["INT", "TERM", "KILL"]))
    yield from draft.meanwhile()
    yield Start(reader.name, by="backfill")


def _rotated_file(draft: Draft) -> Iterator[AnyStep]:
    rng = draft.rng
    reader = draft.file()
    yield draft.go_on(reader)
    yield draft.write(shape="plain", rows=5, times=6, sent=draft.one_of("sent", "sent", "lost"))
    yield File(reader.name, rng.choice(["move", "copytruncate", "copytruncate"]))
    yield draft.write()
    yield from draft.meanwhile()
    dice = rng.random()
    if dice < 0.4:
        yield Signal(reader.name, rng.choice(["KILL", "INT"]))
        yield draft.go_on(reader)
    elif dice < 0.8:
        yield from _full_disk(draft)


def _full_disk(draft: Draft) -> Iterator[AnyStep]:
    reader = draft.file()
    yield draft.go_on(reader)
    yield File(reader.name, "full")
    yield draft.write(rows=20, times=draft.rng.choice([1, 6]))
    yield Redis("cut")
    yield Wait(draft.rng.choice([0.5, 1.5]))
    yield File(reader.name, "room")
    yield draft.go_on(reader)


def _packed_file(draft: Draft) -> Iterator[AnyStep]:
    """--rotate and --compress, ended at any of their steps."""
    rng = draft.rng
    reader = draft.reader("file", since=40 * DAY, rotates=True, polls=rng.random() < 0.5)
    yield Start(reader.name, by="backfill" if reader.polls else "tail")
    yield Fill(rng.choice([300, 3_000]))
    if not reader.polls:
        yield Redis("cut")
    else:
        yield Start(reader.name, by="backfill", stalled=True)
    yield Wait(rng.choice([0.0, 0.1, 0.3, 0.6]))
    yield Signal(reader.name, "KILL")
    yield draft.go_on(reader)


def _lost_state(draft: Draft) -> Iterator[AnyStep]:
    reader = draft.file()
    yield draft.write()
    yield draft.go_on(reader)
    yield Signal(reader.name, draft.rng.choice(["INT", "KILL"]))
    yield LoseState(reader.name)
    yield from draft.meanwhile()
    yield draft.go_on(reader)


def _other_spelling(draft: Draft) -> Iterator[AnyStep]:
    reader = draft.consumer()
    yield draft.write()
    yield draft.go_on(reader)
    yield Signal(reader.name, "INT")
    yield from draft.meanwhile()
    yield draft.go_on(reader, spelling=draft.one_of("localhost", "other_role"))
    yield draft.write()


def _rival(draft: Draft) -> Iterator[AnyStep]:
    """A second one on the same file."""
    first = draft.file()
    yield draft.go_on(first)
    second = draft.reader(
        "file",
        file_of=first.name,
        since=first.since,
        reconcile=first.reconcile,
        polls=draft.rng.random() < 0.3,
        via=first.via,
    )
    yield draft.write(times=6)
    yield draft.go_on(second)
    yield draft.write(times=6)
    yield from draft.meanwhile()


def _wrong_clock(draft: Draft) -> Iterator[AnyStep]:
    clocked = [r for r in draft.readers.values() if r.own_clock]
    reader = clocked[0] if clocked else draft.reader("stream", own_clock=True, reconcile="1s")
    yield draft.go_on(reader)
    yield draft.write()
    yield Clock(reader.name, draft.rng.choice([-HOUR, -2, 2, HOUR]))
    yield from draft.meanwhile()
    if draft.rng.random() < 0.5:
        yield Redis("cut")
        yield draft.write()


def _expectation(draft: Draft) -> Iterator[AnyStep]:
    yield draft.write()
    rows = draft.rng.choice([0, 0, 1, 3])
    yield Expect(rows, draft.rng.choice(["sent", "lost", "doubled"]))


def _bridge(draft: Draft) -> Iterator[AnyStep]:
    """One or two, their clients, and what becomes of both."""
    rng = draft.rng
    bridges = [
        draft.reader(
            "bridge",
            reconcile=rng.choice(["1s", "30s"]),
            workers=rng.choice([1, 1, 1, 2]),
            on_uvloop=rng.random() < 0.2,
        )
        for _ in range(rng.choice([1, 1, 2]))
    ]
    yield from (Start(bridge.name) for bridge in bridges)
    clients = [draft.draw_client() for _ in range(rng.choice([1, 2, 3]))]
    yield from (draft.go_on(client) for client in clients)
    for _ in range(rng.randint(1, 4)):
        yield from draft.meanwhile(2)
        yield from _to_bridge(draft, rng.choice(bridges), rng.choice(clients))


def _to_bridge(draft: Draft, bridge: Reader, client: Reader) -> Iterator[AnyStep]:
    rng = draft.rng
    dice = rng.random()
    if dice < 0.35:
        yield Signal(bridge.name, rng.choice(["KILL", "KILL", "TERM"]))
        yield from draft.meanwhile(2)
        yield Start(bridge.name)
    elif dice < 0.45:
        yield Freeze(bridge.name)
        yield from draft.meanwhile(2)
        yield Wait(rng.choice([0.3, 2.5]))
        yield Thaw(bridge.name)
    elif dice < 0.7:
        yield Net(bridge.name, "cut", after=rng.choice([0, 10, rng.randrange(2000), 100_000]))
        yield draft.write(times=6)
    elif dice < 0.8:
        yield Net(bridge.name, "partition")
        yield from draft.meanwhile(2)
        yield Net(bridge.name, "mend")
    elif dice < 0.9:  # away for longer than a journal holds
        yield Signal(client.name)
        yield Fill(rng.choice([100, 600, 3_000]), age=rng.choice([0, 90 * MINUTE]))
        yield draft.go_on(client)
    else:
        yield Stall(client.name)
        yield Fill(rng.choice([600, 3_000]), age=0, pad=rng.choice([0, 1_000]))
        yield Wait(rng.choice([0.3, 2.0, 2.0, 35.0]))
        yield Flow(client.name)


def _plain(draft: Draft) -> Iterator[AnyStep]:
    yield from draft.meanwhile(6)


MOTIFS: dict[str, tuple[Motif, int, Literal["shared", "own", "pair"]]] = {
    "redis-outage": (_redis_outage, 4, "shared"),
    "postgres-outage": (_postgres_outage, 4, "shared"),
    "crash": (_crash, 4, "shared"),
    "failover": (_failover, 4, "pair"),
    "restored-backup": (_restored_backup, 2, "own"),
    "lagging-standby": (_lagging_standby, 4, "pair"),
    "recovery-conflict": (_recovery_conflict, 3, "pair"),
    "attached": (_attached, 3, "shared"),
    "open-transaction": (_open_transaction, 6, "shared"),
    "killed-reader": (_killed_reader, 5, "shared"),
    "frozen-reader": (_frozen_reader, 2, "shared"),
    "stalled-reader": (_stalled_reader, 8, "shared"),
    "replay": (_replay, 3, "shared"),
    "rotated-file": (_rotated_file, 4, "shared"),
    "full-disk": (_full_disk, 2, "shared"),
    "packed-file": (_packed_file, 2, "shared"),
    "lost-state": (_lost_state, 3, "shared"),
    "other-spelling": (_other_spelling, 3, "shared"),
    "rival": (_rival, 2, "shared"),
    "wrong-clock": (_wrong_clock, 2, "shared"),
    "expectation": (_expectation, 3, "shared"),
    "bridge": (_bridge, 12, "shared"),
    "plain": (_plain, 2, "shared"),
}
"""What a plan is put together from: how it is drawn, how often, and the cluster that it needs."""


def draw(seed: int, only: frozenset[str] = frozenset()) -> Plan:
    """The plan of this seed, of the motifs in `only` if there are any."""
    draft = Draft(seed)
    rng = draft.rng
    names = [name for name in MOTIFS if not only or name in only]
    weights = [MOTIFS[name][1] for name in names]
    chosen = rng.choices(names, weights, k=rng.choice([1, 1, 2, 2, 3]))
    chosen.sort(key="bridge".__ne__)  # what happens then happens to its clients as well
    for kind in rng.choice([("stream",), ("stream",), ("file",), ("stream", "file")]):
        draft.draw_consumer(kind)
    steps: list[AnyStep] = [draft.write() for _ in range(rng.randint(0, 3))]
    if rng.random() < 0.35:
        begun = Open(draft.session(), rng.choice([0, 1]), elsewhere=rng.random() < 0.5)
        steps.insert(rng.randint(0, len(steps)), begun)
    steps += [draft.go_on(reader) for reader in list(draft.readers.values())]
    for name in chosen:
        steps += draft.meanwhile(2)
        steps += MOTIFS[name][0](draft)
    needs = {MOTIFS[name][2] for name in chosen}
    cluster: Literal["shared", "own", "pair"] = (
        "pair" if "pair" in needs else "own" if "own" in needs else "shared"
    )
    return Plan(seed, cluster, tuple(draft.readers.values()), tuple(steps), tuple(chosen))


def encode(plan: Plan) -> bytes:
    return msgspec.json.encode(plan)


def decode(text: bytes) -> Plan:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=Plan)


def describe(plan: Plan) -> str:
    """One line a reader and a step."""
    lines = [f"seed {plan.seed}, cluster {plan.cluster} ({', '.join(plan.motifs)})"]
    lines += [f"  reader {msgspec.json.encode(reader).decode()}" for reader in plan.readers]
    lines += [
        f"  {number:2} {msgspec.json.encode(step).decode()}"
        for number, step in enumerate(plan.steps, 1)
    ]
    return "\n".join(lines)
