"""The stored place: true to what was written at every saving, for as little work as came."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, decode
from lykke_cli.application.place import Place
from tests.builders import entity, wire

AT = "2026-01-31T12:00:00.000000Z"


class Store:
    """CursorStoreProtocol in memory; `written` counts the ids of each saving."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.written: list[int] = []
        self.fails = False

    def load(self) -> Sequence[dict[str, Any]] | None:
        return self.states or None

    def save(self, state: dict[str, Any]) -> None:
        self._may_fail()
        self.states = [state]
        self.written.append(len(state["checkpoint"]["pending"]))

    def add(self, change: dict[str, Any]) -> None:
        self._may_fail()
        self.states.append(change)
        self.written.append(sum(map(len, change["wrote"])))

    def set_aside(self) -> None:
        raise AssertionError("it is not damaged")

    def _may_fail(self) -> None:
        if self.fails:
            raise OSError


def arrivals(number: int) -> list[Arrival]:
    return [Arrival(decode(wire(entity())), "live") for _ in range(number)]


def ids(messages: list[Arrival]) -> set[str]:
    return {arrival.message.id for arrival in messages}  # type: ignore[union-attr]


def checkpoint(name: str, *pending: str) -> Checkpoint:
    return Checkpoint(Cursor({"name": name}), dict.fromkeys(pending, AT), None)


def loaded(store: Store) -> tuple[str, set[str]]:
    found = Place(store).load()
    assert found is not None and found.cursor is not None
    return found.cursor.data["name"], set(found.pending)


def test_what_was_written_since_the_last_saving_is_added_to_it() -> None:
    store = Store()
    place = Place(store)
    place.reached(checkpoint("a", "x"))
    place.save()
    first, second = arrivals(60), arrivals(2)
    for written in (first, second):
        place.wrote(written)
        place.save()
    assert store.written == [1, 60, 2]
    assert loaded(store) == ("a", {"x"} | ids(first) | ids(second))


def test_a_checkpoint_that_is_slow_to_store_waits_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    store = Store()
    place = Place(store)
    before = arrivals(3)
    with clock.taking(2):  # seconds
        place.reached(checkpoint("a"))
        place.save()
    place.wrote(before)
    place.reached(checkpoint("b"))
    after = arrivals(1)
    place.wrote(after)
    place.save()
    assert loaded(store) == ("a", ids(before + after))  # as right as "b"
    assert not place.is_due
    clock.now += 1000
    place.save()
    assert loaded(store) == ("b", ids(after))


def test_a_saving_that_failed_is_made_good_by_the_next() -> None:
    store = Store()
    place = Place(store)
    place.reached(checkpoint("a"))
    place.save()
    lost, later = arrivals(1), arrivals(1)
    place.wrote(lost)
    store.fails = True
    with pytest.raises(OSError):
        place.save()
    assert not place.is_due  # it is not tried again at every entry
    store.fails = False
    place.wrote(later)
    place.save()
    assert loaded(store) == ("a", ids(lost + later))


def test_nothing_is_due_when_nothing_came() -> None:
    place = Place(Store())
    place.reached(checkpoint("a"))
    assert place.is_due
    place.save()
    assert not place.is_due


def test_a_store_may_come_later() -> None:
    store, place, written = Store(), Place(), arrivals(2)
    place.reached(checkpoint("a"))
    place.wrote(written)
    place.save()
    place.store_in(store)
    place.save()
    assert loaded(store) == ("a", ids(written))


class Clock:
    """The monotonic clock of the module; time passes only where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._step = 0.0
        monkeypatch.setattr(time, "monotonic", self._read)

    def taking(self, seconds: float) -> "Clock":
        self._step = seconds
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None:
        self._step = 0.0

    def _read(self) -> float:
        self.now += self._step
        return self.now
