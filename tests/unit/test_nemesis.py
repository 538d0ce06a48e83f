"""The parts of the nemesis that do not wait: drawing a plan, judging, shortening."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.nemesis.oracle import Consumer, Fact, Kind, Line, Run, World, judge, missing
from tests.nemesis.plan import MOTIFS, Reader, Start, Write, decode, describe, draw, encode
from tests.nemesis.shrink import shrink

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DOUBT = "lykke: the place is in doubt: entries of that hour may be printed a second time\n"


class Story:
    """A world with one reader, in which the clock advances with every event."""

    def __init__(self, **reader: Any) -> None:
        self.world = World()
        self.consumer = Consumer(Reader("r", reader.pop("kind", "stream"), **reader))
        self.clock = 100.0

    def tick(self, seconds: float = 1.0) -> float:
        self.clock += seconds
        return self.clock

    def commit(self, id: str, age: timedelta = timedelta(), *, survives: bool = True) -> None:
        fact = Fact(id, NOW - age, 7, begun=self.tick(), committed=self.tick())
        self.world.facts[id] = fact
        if survives:
            self.world.table.add(id)

    def run(self, **fields: Any) -> Run:
        run = Run("tail", self.tick(), **fields)
        run.ready = self.tick()
        run.origin = not self.consumer.runs
        self.consumer.runs.append(run)
        return run

    def prints(self, *ids: str, n: int = 7) -> None:
        self.consumer.runs[-1].lines += [Line(self.tick(), id, n) for id in ids]

    def ends(self, status: int = 130, signal: str | None = "INT") -> None:
        run = self.consumer.runs[-1]
        run.ended, run.status, run.signal = self.tick(), status, signal
        if signal == "KILL":
            run.unsure = run.ended

    @property
    def verdict(self) -> list[Kind]:
        return [violation.kind for violation in judge(self.world, [self.consumer])]


def test_a_plan_is_the_same_every_time_and_survives_json() -> None:
    for seed in range(200):
        plan = draw(seed)
        assert plan == draw(seed)
        assert decode(encode(plan)) == plan
        assert describe(plan)
        assert {step.reader for step in plan.steps if isinstance(step, Start)} <= {
            reader.name for reader in plan.readers
        }


def test_every_motif_is_drawn_and_can_be_drawn_alone() -> None:
    drawn = {motif for seed in range(400) for motif in draw(seed).motifs}
    assert drawn == MOTIFS.keys()
    for name in MOTIFS:
        assert set(draw(1, frozenset({name})).motifs) == {name}


@pytest.mark.parametrize("culprits", [(3,), (3, 11), (0, 19), (4, 5, 6)])
def test_a_failing_plan_is_shortened_to_the_steps_that_matter(culprits: tuple[int, ...]) -> None:
    def fails(steps: tuple[int, ...]) -> bool:
        return set(culprits) <= set(steps)

    assert shrink(range(20), fails) == culprits


def test_shortening_ends_with_what_it_has_when_nothing_fails_any_more() -> None:
    steps = tuple(range(9))
    assert shrink(steps, lambda _: False) == steps
    assert shrink(steps, lambda _: True) == ()


def test_shortened_steps_make_a_plan() -> None:
    plan = draw(3)
    short = plan.with_steps(plan.steps[:1])
    assert short.steps == plan.steps[:1]
    assert short.duration < plan.duration
    assert Write() == Write("plain")


def test_a_reader_that_prints_each_once_is_without_fault() -> None:
    story = Story()
    story.commit("before")
    story.run()
    story.commit("a")
    story.commit("b")
    story.prints("b", "a")
    story.ends()
    story.run()
    story.commit("c")
    story.prints("c")
    story.ends()
    assert story.verdict == []


def test_what_was_committed_after_the_start_is_owed() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.commit("gone", survives=False)
    assert missing(story.world, story.consumer, []) == ["a"]
    story.ends()
    assert story.verdict == ["lost"]


def test_what_is_within_since_is_owed_and_the_rest_forbidden() -> None:
    story = Story()
    story.commit("old", timedelta(hours=3))
    story.commit("new")
    run = story.run(since=NOW - timedelta(hours=1))
    story.ends()
    assert story.verdict == ["lost"]
    run.lines = [Line(1.0, "new", 7), Line(1.0, "old", 7)]
    assert story.verdict == ["early"]


def test_the_newest_are_owed_with_last() -> None:
    story = Story()
    for n in range(5):
        story.commit(f"e{n}", timedelta(hours=n))
    run = story.run(last=2)
    story.prints("e1", "e0")
    story.ends()
    assert story.verdict == []
    run.lines.append(Line(1.0, "e4", 7))
    assert story.verdict == ["early"]


def test_a_late_broadcast_of_an_old_entry_may_be_printed() -> None:
    story = Story()
    story.commit("old")
    story.run()
    story.prints("old")
    story.ends()
    assert story.verdict == ["early"]
    story.world.facts["old"].published.append(story.consumer.runs[0].spawned + 0.5)
    assert story.verdict == []


def test_the_same_entry_twice() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.prints("a", "a")
    story.ends()
    assert story.verdict == ["twice"]


def test_a_notice_excuses_repetition_only_where_there_was_a_reason() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.prints("a", "a")
    story.ends()
    story.consumer.runs[0].stderr = DOUBT
    assert story.verdict == ["twice"]
    story.world.doubts.append(story.consumer.runs[0].spawned)
    assert story.verdict == []


def test_a_bridge_s_client_may_be_sent_something_twice_only_where_it_was_told() -> None:
    for told, verdict in (("", ["twice"]), (DOUBT, [])):
        story = Story(via="socket")
        story.run()
        story.commit("a")
        story.prints("a", "a")
        story.ends()
        story.world.doubts.append(105.5)
        story.consumer.runs[0].stderr = told
        assert story.verdict == verdict


def test_a_notice_excuses_no_loss() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.ends()
    story.consumer.runs[0].stderr = DOUBT
    story.world.doubts.append(story.consumer.runs[0].spawned)
    assert story.verdict == ["lost"]


def test_what_is_older_than_the_overlap_need_not_be_found_by_time() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.commit("old", timedelta(hours=3))
    story.prints("a")
    story.ends()
    assert story.verdict == ["lost"]
    story.consumer.runs[0].stderr = DOUBT
    story.world.doubts.append(story.consumer.runs[0].spawned)
    assert story.verdict == []


@pytest.mark.parametrize(("pause", "verdict"), [(1.0, []), (30.0, ["twice"])])
def test_a_killed_reader_may_repeat_its_last_seconds(pause: float, verdict: list[Kind]) -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.prints("a")
    story.tick(pause)
    story.ends(-9, "KILL")
    story.run()
    story.prints("a")
    story.ends()
    assert story.verdict == verdict


def test_an_interrupted_reader_may_repeat_nothing() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.prints("a")
    story.ends()
    story.run()
    story.prints("a")
    story.ends()
    assert story.verdict == ["twice"]


def test_what_nobody_committed_is_unknown() -> None:
    story = Story()
    story.run()
    story.prints("x")
    story.ends()
    assert story.verdict == ["unknown"]
    story.world.facts["x"] = Fact("x", NOW, 7)  # rolled back
    assert story.verdict == ["unknown"]
    story.world.facts["x"].published.append(story.clock)  # forged: it came on the channel
    assert story.verdict == []


def test_what_is_printed_is_what_was_written() -> None:
    story = Story()
    story.run()
    story.commit("a")
    story.prints("a", n=8)
    story.ends()
    assert story.verdict == ["altered"]


def test_a_reader_that_hangs_or_fails() -> None:
    story = Story()
    run = story.run()
    run.hung = "did not end"
    story.ends()
    assert story.verdict == ["hang"]
    run.hung, run.stderr = None, "lykke: This is a bug in lykke: KeyError"
    assert story.verdict == ["bug"]
    run.stderr = "Traceback (most recent call last):"
    assert story.verdict == ["bug"]


def test_a_tail_does_not_end_by_itself_without_a_reason() -> None:
    story = Story()
    run = story.run()
    story.ends(3, None)
    run.stderr = "lykke: Cannot reach the database"
    assert story.verdict == ["ended"]
    run.database_faults = True
    assert story.verdict == []
    run.stderr = ""
    assert story.verdict == ["ended"]


def test_a_full_disk_may_end_it_and_a_rival_may_be_refused() -> None:
    story = Story(kind="file")
    run = story.run()
    story.consumer.file = []
    run.stderr = "lykke: Cannot write"
    story.ends(5, None)
    assert story.verdict == ["ended"]
    run.disk_full = True
    assert story.verdict == []
    run.disk_full, story.consumer.contested = False, True
    assert story.verdict == []


def test_a_place_is_not_forgotten() -> None:
    story = Story()
    story.run()
    story.ends()
    story.run().stderr = "lykke: no place is stored yet: following from now on"
    story.ends()
    assert story.verdict == ["forgot"]
    story.consumer.state_lost.append(story.consumer.runs[0].ended or 0)
    assert story.verdict == []


def test_a_file_has_every_entry_once_and_no_damage() -> None:
    story = Story(kind="file")
    story.run()
    story.commit("a")
    story.ends()
    story.consumer.file = [Line(0.0, "a", 7)]
    assert story.verdict == []
    story.consumer.file = []
    assert story.verdict == ["lost"]
    story.consumer.file = [Line(0.0, "a", 7), Line(0.0, "a", 7)]
    assert story.verdict == ["twice"]
    story.consumer.runs[-1].signal = "KILL"  # which excuses nothing in a file
    assert story.verdict == ["twice"]
    story.consumer.file = [Line(0.0, "a", 7)]
    story.consumer.damage = ["NUL bytes"]
    assert story.verdict == ["damaged"]


def test_a_range_is_complete_when_it_ends_well() -> None:
    story = Story(kind="range")
    story.commit("a")
    run = story.run(since=NOW - timedelta(hours=1))
    run.command = "backfill"
    story.commit("meanwhile")
    story.ends(0, None)
    assert story.verdict == ["lost"]
    story.prints("a")
    assert story.verdict == []
    story.prints("a")
    assert story.verdict == ["twice"]
    run.lines, run.status, run.stderr = [], 3, "lykke: Cannot reach the database"
    assert story.verdict == ["ended"]
    run.database_faults = True
    assert story.verdict == []


def test_the_application_is_not_kept_waiting() -> None:
    story = Story()
    story.world.harm.append("ALTER TABLE waited")
    assert story.verdict == ["harm"]


def test_random_faithful_readers_are_never_accused() -> None:
    rng = random.Random(1)
    for _ in range(200):
        story = Story()
        story.run()
        waiting: list[str] = []
        for n in range(rng.randint(0, 12)):
            story.commit(f"e{n}", timedelta(hours=rng.choice([0, 0, 5])))
            waiting.append(f"e{n}")
            if rng.random() < 0.3:
                story.ends()
                story.run()
            if rng.random() < 0.5:
                rng.shuffle(waiting)
                story.prints(*waiting)
                waiting.clear()
        story.prints(*waiting)
        story.ends()
        assert story.verdict == []
