"""An outage is told in the order in which it happened, with its rows counted where they can be."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.gateways.pubsub_protocol import Gap, Kept
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, decode
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead, Notice
from lykke_cli.application.tail import Event
from lykke_cli.cli.output import scene as module
from lykke_cli.cli.output.clock import Clock
from lykke_cli.cli.output.scene import HOLD_TIME, Line, Scene
from tests.builders import entity, wire

START = datetime(2026, 11, 24, 15, 6, 19, tzinfo=UTC)
END = START + timedelta(seconds=11)
AGAIN = Connected("c", Gap(START, END))
LOST = Disconnected("Redis is gone.", START)
READ = HistoryRead(0, after_failure=False)
SAVE = Save(Checkpoint(Cursor({}), {}, None))
MESSAGE = decode(wire(entity()))
LIVE = Print([Arrival(MESSAGE, "live")])
FULL_RULE = "── outage 15:06:19 to 15:06:30 UTC · {} recovered ──"
OPEN_RULE = "── outage since 15:06:19 UTC ──"


def recovered(number: int = 1) -> Print:
    return Print([Arrival(MESSAGE, "recovered")] * number)


EVENTS = [
    *(LIVE, LOST, AGAIN, READ, SAVE, recovered(), recovered(600), HistoryAway("gone")),
    *(HistoryRead(1, True), HistoryRead(1, False, True), Print([Arrival(MESSAGE, "history")])),
]


def a_scene(*, with_history: bool = True, is_among_rows: bool = True) -> Scene:
    """Of a run that has begun."""
    scene = Scene(Clock(UTC), with_history=with_history, is_among_rows=is_among_rows)
    told(scene, Connected("c", None), READ)
    return scene


def told(scene: Scene, *events: Event | float) -> list[str]:
    """What comes of the events; a number is the time that has passed before the next."""
    now, steps = 0.0, []
    for event in events:
        if isinstance(event, float):
            now += event
        else:
            steps += [in_words(step) for step in scene.take(event, now)]
    return [step for step in steps if step]


def in_words(step: Event | Line) -> str:
    match step:
        case Line(text):
            return text
        case Print(arrivals):
            return f"{len(arrivals)} {arrivals[0].source}"
        case Save():
            return "save"
    return ""


def test_a_short_outage_is_a_rule_the_rows_and_the_end() -> None:
    again = "connected again after 11 s; 3 recovered from the database"
    assert told(
        a_scene(),
        *(LIVE, LOST, recovered(2), SAVE, READ, AGAIN, recovered(), SAVE, LIVE, SAVE, READ, LIVE),
    ) == [
        *("1 live", "Redis is gone; trying again", FULL_RULE.format(3)),
        *("2 recovered", "save", "1 recovered", again, "save", "1 live", "save", "1 live"),
    ]


@pytest.mark.parametrize(
    ("kept", "told_of"),
    [
        (Kept.ALL, ["connected again; the streams have kept what was missed"]),
        (Kept.SOME, ["of the messages published in it some may be lost", "15:06:19 to 15:06:30"]),
        (Kept.NOTHING, ["messages published in it are lost", "15:06:19 to 15:06:30"]),
    ],
)
def test_without_a_history_it_is_told_what_is_lost(kept: Kept, told_of: list[str]) -> None:
    scene = a_scene(with_history=False)
    _, again = told(scene, LOST, Connected("c", Gap(START, END, kept)))
    assert all(text in again for text in told_of)
    assert ("GAP" in again) == (kept is not Kept.ALL)
    assert again.startswith("connected again; ")


def test_a_loss_between_two_runs_is_no_outage_of_this_one() -> None:
    [lost] = told(a_scene(with_history=False), Connected("c", Gap(START, END, Kept.SOME)))
    assert lost.startswith("GAP from 15:06:19 to 15:06:30")


def test_an_outage_before_anything_was_followed_ends_when_it_is() -> None:
    scene = Scene(Clock(UTC), with_history=True, is_among_rows=True)
    assert told(scene, LOST, Connected("c", None), READ, recovered(), READ, HOLD_TIME, READ) == [
        *("Redis is gone; trying again", "following c", "1 recovered"),
    ]


def test_nothing_is_told_every_two_seconds() -> None:
    scene = a_scene()
    told(scene, LOST)
    assert told(scene, *[HistoryRead(1, after_failure=False)] * 5) == []


def test_an_outage_in_which_nothing_was_missed_has_no_rule() -> None:
    assert told(a_scene(), LOST, READ, AGAIN, READ) == [
        "Redis is gone; trying again",
        "connected again after 11 s; nothing was missed",
    ]


def test_a_read_that_goes_on_does_not_end_it() -> None:
    unfinished = HistoryRead(1, after_failure=False, goes_on=True)
    steps = told(a_scene(), LOST, recovered(), AGAIN, unfinished, recovered(), READ)
    assert steps[1] == FULL_RULE.format(2)


def test_a_long_outage_is_opened_and_its_rows_come_as_they_are_read() -> None:
    scene = a_scene()
    assert told(scene, LOST, recovered(), HOLD_TIME, READ)[1:] == [OPEN_RULE, "1 recovered"]
    assert told(scene, recovered(), SAVE) == ["1 recovered", "save"]
    assert told(scene, AGAIN, recovered(), LIVE, READ) == [
        *("1 recovered", FULL_RULE.format(3)),
        *("connected again after 11 s; 3 recovered from the database", "1 live"),
    ]


def test_what_is_found_after_a_long_outage_is_counted_first() -> None:
    scene = a_scene()
    assert told(scene, LOST, HOLD_TIME, READ, AGAIN, recovered(), READ)[1:3] == [
        FULL_RULE.format(1),
        "1 recovered",
    ]


@pytest.mark.parametrize("most", ["HOLD_ROWS", "HOLD_BYTES"])
def test_rows_beyond_the_limit_are_not_held_back(
    most: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, most, 3)
    scene = a_scene()
    assert told(scene, LOST, AGAIN, recovered(4), recovered())[1:] == [
        "── outage 15:06:19 to 15:06:30 UTC ──",
        *("4 recovered", "1 recovered"),
    ]
    assert scene.held_rows == 0
    assert told(scene, READ) == [
        FULL_RULE.format(5),
        "connected again after 11 s; 5 recovered from the database",
    ]


def test_a_second_break_ends_the_first_scene() -> None:
    assert told(a_scene(), LOST, recovered(), LOST)[1:] == [
        *(OPEN_RULE, "1 recovered", "Redis is gone; trying again")
    ]


def test_what_waits_is_let_go_at_the_end_of_the_run() -> None:
    scene = a_scene()
    told(scene, LOST, recovered(), SAVE)
    assert scene.held_rows == 1
    assert [in_words(step) for step in scene.release()] == [OPEN_RULE, "1 recovered", "save"]


def test_without_the_database_what_comes_live_does_not_wait_for_it() -> None:
    away = HistoryAway("The database is gone.")
    scene = a_scene()
    assert told(scene, LOST, away, AGAIN, LIVE)[1:] == [
        "The database is gone; live goes on, trying again",
        "connected again; reading what was missed from 15:06:19 to 15:06:30 UTC",
        "1 live",
    ]
    back = HistoryRead(1, after_failure=True)
    assert told(scene, recovered(), back) == [
        FULL_RULE.format(1),
        "1 recovered",
        "database is back; 1 recovered from the database",
    ]


def test_a_database_that_goes_while_it_is_read_lets_the_rows_go() -> None:
    away = HistoryAway("The database is gone.")
    assert told(a_scene(), LOST, AGAIN, recovered(), away, LIVE)[1:] == [
        *("── outage 15:06:19 to 15:06:30 UTC ──", "1 recovered"),
        "connected again; reading what was missed from 15:06:19 to 15:06:30 UTC",
        *("The database is gone; live goes on, trying again", "1 live"),
    ]


def test_beside_the_output_nothing_waits() -> None:
    scene = a_scene(is_among_rows=False)
    assert told(scene, LOST, recovered(), READ, AGAIN, recovered(2), READ) == [
        *("Redis is gone; trying again", "1 recovered"),
        "connected again; reading what was missed from 15:06:19 to 15:06:30 UTC",
        *("2 recovered", "3 recovered from the database"),
    ]


def test_without_a_history_the_gap_is_told() -> None:
    scene = a_scene(with_history=False)
    lost, gap, live = told(scene, LOST, AGAIN, LIVE)
    assert (lost, live) == ("Redis is gone; trying again", "1 live")
    assert gap.startswith("connected again; GAP from 15:06:19 to 15:06:30 UTC: ")


def test_what_was_asked_for_from_history_is_not_called_missed() -> None:
    scene = Scene(Clock(UTC), with_history=True, is_among_rows=True)
    history = Print([Arrival(MESSAGE, "history")])
    assert told(scene, Connected("c", None), LOST, history, AGAIN, history, READ)[1:] == [
        *("Redis is gone; trying again", "1 history", "1 history", "connected again after 11 s"),
    ]


def test_lost_broadcasts_are_told_when_they_are_found() -> None:
    found = HistoryRead(1, after_failure=False)
    assert told(a_scene(), recovered(), found) == ["1 recovered", "1 recovered from the database"]


def test_other_news_come_at_once() -> None:
    assert told(a_scene(), LOST, recovered(), Notice("news"))[1:] == ["news"]


@given(st.lists(st.sampled_from(EVENTS)))
def test_whatever_happens_the_rows_and_places_keep_their_order(events: list[Event]) -> None:
    scene = a_scene()
    steps = [step for event in events for step in scene.take(event, 0)] + [*scene.release()]
    kept = (Print, Save, HistoryRead)
    assert [s for s in steps if isinstance(s, kept)] == [e for e in events if isinstance(e, kept)]
    assert scene.held_rows == 0


@pytest.mark.parametrize("with_history", [True, False])
def test_another_node_is_told_of_once(with_history: bool) -> None:
    scene = Scene(Clock(UTC), with_history=with_history, is_among_rows=False)
    lines = told(scene, Connected("c", None, "10.0.0.1:1"), READ)
    assert lines == ["following c at 10.0.0.1:1"]
    for node in ("10.0.0.1:1", "10.0.0.2:2", "10.0.0.2:2"):
        lines += told(scene, LOST, Connected("c", AGAIN.gap, node), READ)
    assert [line for line in lines if "10.0.0.2" in line] == [
        "10.0.0.2:2 is followed now, no longer 10.0.0.1:1"
    ]


def test_one_server_has_no_node_to_be_told_of() -> None:
    assert not any("None" in line for line in told(a_scene(), LOST, AGAIN, READ))
