"""One selection means the same rows to every reader of a database, on SQLite and on PostgreSQL."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.wall_clock import BUCKETS, WallClock
from lykke_cli.bootstrap import make_history, make_statistics, make_users
from lykke_cli.infrastructure.configuration.settings import Settings
from tests.builders import entity, insert
from tests.contract.conftest import Urls

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ANNA, BEA, CARL = UUID(int=1), UUID(int=2), UUID(int=0xABCDEF)
THING, OTHER_THING = UUID(int=3), UUID(int=4)
TYPES = ("TASK_DONE", "task_done", "TASKxDONE", "100%", "100 percent", "[ab]*?", "a", r"back\slash")
ENTITIES = [
    entity(
        user,
        activity_type,
        NOON + timedelta(minutes=number),
        entity_type=entity_type,
        entity_id=entity_id,
    )
    for number, (user, activity_type, (entity_type, entity_id)) in enumerate(
        (user, activity_type, thing)
        for user in (ANNA, BEA, CARL)
        for activity_type in TYPES
        for thing in ((None, None), ("", THING), ("task", THING), ("task", OTHER_THING))
    )
]


@dataclass(frozen=True)
class Case:
    selection: Selection
    users: tuple[UUID, ...] = (ANNA, BEA, CARL)
    types: tuple[str, ...] = TYPES
    entity_type: str | None = None
    entity_id: UUID | None = None

    @property
    def expected(self) -> list[str]:
        return [
            str(each.id)
            for each in ENTITIES
            if each.user_id in self.users
            and each.activity_type in self.types
            and self.entity_type in (None, each.entity_type)
            and self.entity_id in (None, each.entity_id)
        ]


def of_likes(*likes: str) -> Selection:
    return Selection(user_ids={ANNA}, activity_likes=likes)


CASES = {
    "every user": Case(Selection(user_ids=None)),
    "one user": Case(Selection(user_ids={ANNA}), (ANNA,)),
    "several users": Case(Selection(user_ids={ANNA, CARL}), (ANNA, CARL)),
    "no user": Case(Selection(user_ids=set()), ()),
    "some types of several users": Case(
        Selection(user_ids={ANNA, CARL, UUID(int=9)}, activity_types=["100%"]),
        (ANNA, CARL),
        ("100%",),
    ),
    "types": Case(
        Selection(user_ids={ANNA}, activity_types=["100%", "task_done", "none"]),
        (ANNA,),
        ("100%", "task_done"),
    ),
    "any": Case(of_likes("%"), (ANNA,)),
    "in their case": Case(of_likes("TASK_DONE"), (ANNA,), ("TASK_DONE", "TASKxDONE")),
    "escaped": Case(of_likes(r"TASK\_D%", r"%\%"), (ANNA,), ("TASK_DONE", "100%")),
    "special elsewhere": Case(of_likes("[ab]*?", "[ab]"), (ANNA,), ("[ab]*?",)),
    "escaped needlessly": Case(of_likes(r"\[\a%\*\?"), (ANNA,), ("[ab]*?",)),
    "a backslash": Case(of_likes(r"%\\%"), (ANNA,), (r"back\slash",)),
    "none like it": Case(of_likes("b"), (), ()),
    "types and likes": Case(
        Selection(user_ids=None, activity_types=["a", "100%"], activity_likes=["100%"]),
        types=("100%",),
    ),
    "some excluded": Case(
        Selection(user_ids={ANNA}, excluded_likes=["TASK%", r"100\%", r"%\\%"]),
        (ANNA,),
        ("task_done", "100 percent", "[ab]*?", "a"),
    ),
    "some of the likes excluded": Case(
        Selection(user_ids={ANNA}, activity_likes=["TASK%"], excluded_likes=[r"TASK\_%", "a"]),
        (ANNA,),
        ("TASKxDONE",),
    ),
    "an entity type": Case(
        Selection(user_ids={BEA}, entity_type="task"), (BEA,), entity_type="task"
    ),
    "an empty entity type": Case(Selection(user_ids={BEA}, entity_type=""), (BEA,), entity_type=""),
    "an entity": Case(Selection(user_ids={ANNA}, entity_id=THING), (ANNA,), entity_id=THING),
    "all of it": Case(
        Selection(
            user_ids={ANNA},
            activity_types=["TASK_DONE", "100%"],
            activity_likes=["TASK%"],
            entity_type="task",
            entity_id=THING,
        ),
        (ANNA,),
        ("TASK_DONE",),
        "task",
        THING,
    ),
}


async def test_every_reader_selects_the_same_rows(urls: Urls) -> None:
    settings, url = Settings(database_url=urls.reader), urls.owner
    clock = WallClock(UTC, NOON, NOON)
    async with make_history(settings) as history:
        starts = {
            name: [chunk async for chunk in history.begin(case.selection)][-1].cursor
            for name, case in CASES.items()
        }
        await insert(url, ENTITIES)
        for name, case in CASES.items():
            selection, expected = case.selection, case.expected

            chunks = [chunk async for chunk in history.changes(selection, starts[name])]
            assert [row.id for chunk in chunks for row in chunk.rows] == expected, name
            chunks = [chunk async for chunk in history.begin(selection, since=NOON)]
            assert [row.id for chunk in chunks for row in chunk.rows] == expected, name
            newest = [chunk async for chunk in history.begin(selection, last=2)]
            assert [row.id for chunk in newest for row in chunk.rows] == expected[-2:], name
            parts = [part async for part in history.stream(selection)]
            assert [row.id for part in parts for row in part] == expected, name
            lines = b"".join([block async for block in history.lines(selection)]).splitlines()
            assert [orjson.loads(line)["id"] for line in lines] == expected, name
            assert await history.count(selection) == len(expected), name
            others = {str(e.id) for e in ENTITIES}.difference(expected)
            unverified = await history.verify(
                selection, chunks[-1].cursor, [str(e.id) for e in ENTITIES]
            )
            assert unverified == others, name

    async with make_statistics(settings) as statistics, make_users(settings) as users:
        for name, case in CASES.items():
            scope, expected = Scope(selection=case.selection), case.expected
            assert (await statistics.summary(scope)).entries == len(expected), name
            by_type = await statistics.by_type(scope, 99)
            assert sum(each.entries for each in by_type) == len(expected), name
            buckets = await statistics.by_bucket(scope, BUCKETS[0], clock)
            assert sum(buckets.values()) == len(expected), name
            hours = await statistics.by_hour(scope, clock)
            assert sum(hours.values()) == len(expected), name
            active = await users.active(scope, 9)
            assert sum(user.entries for user in active) == len(expected), name


def test_the_cases_tell_selections_apart() -> None:
    assert len({e.id for e in ENTITIES}) == len(ENTITIES) == 3 * len(TYPES) * 4
    counts = {name: len(case.expected) for name, case in CASES.items()}
    assert [name for name in CASES if not counts[name]] == ["no user", "none like it"]
    assert counts["all of it"] == 1
