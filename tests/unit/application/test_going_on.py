"""Streams that are read without a database, by runs that are killed: each entry once, or a gap."""

import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from lykke_cli.application.gateways.pubsub_protocol import Position
from lykke_cli.application.going_on import starts
from lykke_cli.application.stream_ids import NO_ID, StreamId
from tests.unit.application.streams_world import STREAMS, World

SCHEDULES = 1_500
STEPS = 60
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def some_time(world: World, rng: random.Random, *, losses: bool) -> None:
    """Something happens, again and again, and at last everything is read."""
    for _ in range(STEPS):
        name = rng.choice(STREAMS)
        match rng.choice("PPPPPRRRRHSSKEL" + "TDB" * losses):
            case "P":
                for _ in range(rng.randint(1, 4)):
                    world.publish(name, skew=rng.choice((0, 0, 5)) if losses else 0)
            case "R":
                names = rng.sample(STREAMS, rng.randint(1, len(STREAMS)))
                world.read(names, rng.randint(1, 5))
            case "H":  # killed, or ended, in the middle of what came together
                world.read(STREAMS, rng.randint(1, 5), printed=rng.randint(0, 6))
                world.end() if rng.random() < 0.5 else world.kill()
            case "S":
                world.save()
            case "K":
                world.kill()
            case "E":
                world.end()
            case "L":
                world.look()
            case "T":
                world.trim(name, rng.randint(1, 8))
            case "D":
                world.delete(name)
            case "B":
                world.set_back(name, rng.randint(1, 3))
    world.kill()
    world.drain()


@pytest.mark.parametrize("seed", range(0, SCHEDULES, 100))
def test_what_the_streams_keep_comes_exactly_once_across_kills(seed: int) -> None:
    for each in range(seed, seed + 100):
        world = World()
        some_time(world, random.Random(each), losses=False)
        assert Counter(world.output) == Counter(world.awaited), each
        assert world.gaps == 0, each


@pytest.mark.parametrize("seed", range(0, SCHEDULES, 100))
def test_nothing_comes_twice_and_nothing_is_lost_without_a_gap(seed: int) -> None:
    gaps = 0
    for each in range(seed, seed + 100):
        world = World()
        some_time(world, random.Random(each), losses=True)
        printed = Counter(world.output)
        assert not [entry for entry, times in printed.items() if times > 1], each
        assert world.awaited - set(printed) <= world.excused, each
        gaps += world.gaps
    assert gaps > 100


def test_a_stream_that_is_as_it_was_is_gone_on_with() -> None:
    ids = {"a": StreamId(5, 0), "b": NO_ID}
    assert starts(Position(ids, NOW), ids, set()) == (ids, None)


@pytest.mark.parametrize(
    ("newest", "trimmed"),
    [
        ({"a": StreamId(4, 0)}, set()),  # set back
        ({"a": NO_ID}, set()),  # trimmed, or deleted
        ({"a": StreamId(5, 0), "b": NO_ID}, {"b"}),  # it was empty, and more came than is kept
        ({"a": StreamId(5, 0), "c": NO_ID}, set()),  # not among those that were read
    ],
)
def test_a_stream_that_is_not_is_named(newest: dict[str, StreamId], trimmed: set[str]) -> None:
    begins = starts(Position({"a": StreamId(5, 0), "b": NO_ID}, NOW), newest, trimmed)
    assert begins.ids == newest
    assert begins.missing is not None
    assert begins.missing.startswith([*newest][-1])
