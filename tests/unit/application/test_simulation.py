"""The demo's people: the same every time, with a past that looks like one."""

from datetime import UTC, datetime, timedelta

from lykke_cli.application.simulation import Simulation

NOON = datetime(2026, 5, 15, 12, tzinfo=UTC)


def test_the_same_seed_gives_the_same_people_and_the_same_past() -> None:
    one, same, other = Simulation(), Simulation(), Simulation(seed=1)
    assert one.people == same.people
    assert one.history(3, NOON) == same.history(3, NOON)
    assert other.people[1:] != one.people[1:]


def test_the_documented_user_is_one_of_ten() -> None:
    people = Simulation().people
    assert len({person.id for person in people}) == len({p.email for p in people}) == 10
    assert str(people[0].id) == "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10"
    assert people[0].email == "anna@example.com"


def test_the_past_is_what_everybody_did_in_so_many_days_in_order() -> None:
    simulation = Simulation()
    entries = simulation.history(30, NOON)
    moments = [entry.occurred_at for entry in entries]
    assert moments == sorted(moments)
    assert NOON - timedelta(days=30) <= moments[0] < NOON - timedelta(days=29)
    assert NOON - timedelta(days=1) < moments[-1] < NOON
    assert {entry.user_id for entry in entries} == {person.id for person in simulation.people}
    assert len({entry.id for entry in entries}) == len(entries) > 2000


def test_a_task_is_put_off_before_it_is_done() -> None:
    """So that one can ask what happened to it."""
    by_task: dict[object, list[str]] = {}
    for entry in Simulation().history(30, NOON):
        if entry.entity_type == "task":
            by_task.setdefault(entry.entity_id, []).append(entry.activity_type)
    assert any(len(types) > 2 for types in by_task.values())
    assert all("TASK_COMPLETED" not in types[:-1] for types in by_task.values())
