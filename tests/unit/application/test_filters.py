"""Which entries the filters let through, and what they ask of the database."""

import fnmatch
import sqlite3
import sys
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import (
    Arrival,
    Entry,
    OtherMessage,
    format_time,
    unreadable_entry,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TASK = uuid.uuid4()


def arrival(**changes: Any) -> Arrival:
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "user_id": str(uuid.uuid4()),
        "activity_type": "TASK_COMPLETED",
        "occurred_at": format_time(NOON),
        "entity_id": str(TASK),
        "entity_type": "task",
        "meta": msgspec.Raw(b'{"title":"Buy milk","n":2}'),
    }
    return Arrival(Entry(**(fields | changes)), "live")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"activity_types": ("X", "TASK_COMPLETED")},
        {"activity_types": ("X", "TASK_*")},
        {"activity_types": ("TASK_[A-C]OMPLETE?",)},
        {"entity_type": "task"},
        {"entity_id": TASK},
        {"until": NOON + timedelta(seconds=1)},
        {"query": "meta.n > `1`"},
        {"grep": r"Buy\s"},
        {"grep": "(?i)buy MILK"},
        {"not_grep": "buy milk"},
        {"excluded_types": ("task_completed", "TASK", "*_P*", "[!A-Z]*")},
        {"activity_types": ("TASK_*",), "excluded_types": ("TASK_PUNTED",)},
    ],
)
def test_an_entry_that_has_it_all_is_wanted(fields: dict[str, Any]) -> None:
    one = arrival()
    assert list(Filters(**fields).select([one])) == [one]


@pytest.mark.parametrize(
    "fields",
    [
        {"activity_types": ("X", "task_completed")},
        {"activity_types": ("TASK", "*_COMPLETE")},
        {"activity_types": ("TASK_[!A-C]OMPLETED",)},
        {"entity_type": "tas"},
        {"entity_id": uuid.uuid4()},
        {"until": NOON},
        {"query": "meta.n > `2`"},
        {"query": "abs(meta.title)"},
        {"query": "meta.n > '1'"},
        {"grep": "buy milk"},
        {"activity_types": ("TASK_*",), "grep": "nothing"},
        {"not_grep": "(?i)buy MILK"},
        {"grep": "milk", "not_grep": "Buy"},
        {"excluded_types": ("X", "TASK_COMPLETED")},
        {"excluded_types": ("TASK_*",)},
        {"excluded_types": ("[A-Z]*",)},
        {"activity_types": ("TASK_COMPLETED",), "excluded_types": ("*_COMPLETED",)},
    ],
)
def test_an_entry_that_lacks_something_is_not(fields: dict[str, Any]) -> None:
    filters = Filters(**fields)
    assert list(filters.select([arrival()])) == []
    assert list(filters.select([Arrival(OtherMessage(b"{}"), "live")])) == []


@pytest.mark.parametrize("pattern", ['"n":2', '"title":"Læs', r"^\{.*\[1,2\]", "9[.]90"])
@pytest.mark.parametrize(
    "meta",
    [
        '{"title":"Læs","n":2,"at":[1,2],"price":9.90}',
        '{ "title" : "Læs", "n": 2, "at": [1, 2], "price": 9.90}',
        r'{"title": "L\u00e6s", "n": 2, "at": [1, 2], "price": 9.90}',
    ],
)
def test_a_regular_expression_finds_the_same_however_the_json_is_written(
    pattern: str, meta: str
) -> None:
    one = arrival(meta=msgspec.Raw(meta.encode()))
    assert list(Filters(grep=pattern).select([one])) == [one]
    assert list(Filters(not_grep=pattern).select([one])) == []


@pytest.mark.parametrize("depth", range(900, 1_100, 10))
def test_no_depth_of_the_json_ends_the_reading(depth: int) -> None:
    """A decoder gives up at another depth than an encoder does."""
    meta = "[" * depth + r'"\u0001 milk"' + "]" * depth
    one = arrival(meta=msgspec.Raw(meta.encode()))
    assert list(Filters(grep="milk").select([one])) == [one]
    assert list(Filters(grep="bread", not_grep="milk").select([one])) == []
    assert list(Filters(query="to_string(meta) == 'bread'").select([one])) == []


@pytest.mark.parametrize("fields", [{"query": "meta["}, {"grep": "("}, {"not_grep": "("}])
def test_what_is_no_expression_is_a_usage_mistake(fields: dict[str, Any]) -> None:
    option = next(iter(fields)).replace("_", "-")
    with pytest.raises(UsageMistake, match=f"--{option} is not"):
        Filters(**fields)


def test_without_patterns_the_database_is_asked_for_the_very_types() -> None:
    filters = Filters(activity_types=("A%", "B"))
    assert filters.selection(None).activity_types == ("A%", "B")
    assert not filters.selection(None).activity_likes
    assert filters.is_all_sql


EVENT = (
    b'{"id":"7","event_type":"TaskMoved","event_data":{"title":"Buy milk","n":2},'
    b'"entity_type":"task","entity_id":"' + str(TASK).upper().encode() + b'",'
    b'"occurred_at":"' + format_time(NOON).encode() + b'"}'
)


@pytest.mark.parametrize(
    ("fields", "is_wanted"),
    [
        ({"activity_types": ("TaskMoved",)}, True),
        ({"activity_types": ("Task*",)}, True),
        ({"activity_types": ("TASK_*",)}, False),
        ({"entity_type": "task"}, True),
        ({"entity_id": TASK}, True),
        ({"entity_id": uuid.uuid4()}, False),
        ({"until": NOON + timedelta(seconds=1)}, True),
        ({"until": NOON}, False),
        ({"excluded_types": ("TASK_*",)}, True),
        ({"excluded_types": ("Task*",)}, False),
        ({"query": "event_data.n == `2`"}, True),
        ({"query": "event_data.n == `3`"}, False),
        ({"grep": "milk"}, True),
        ({"grep": "bread"}, False),
        ({"not_grep": "milk"}, False),
    ],
)
def test_any_object_is_looked_into_where_that_is_asked_for(
    fields: dict[str, Any], is_wanted: bool
) -> None:
    event = Arrival(OtherMessage(EVENT), "live")
    assert bool(Filters(**fields, any_message=True).select([event])) == is_wanted
    assert not Filters(**fields).select([event])


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"type":"a","event_type":"b","activity_type":"c"}', "c"),
        (b'{"type":"a","event_type":"b"}', "b"),
        (b'{"type":"a","event_type":7}', "a"),
    ],
)
def test_the_type_of_an_object_is_the_first_there_is(raw: bytes, name: str) -> None:
    event = Arrival(OtherMessage(raw), "live")
    filters = Filters(activity_types=(name,), any_message=True)
    assert list(filters.select([event, Arrival(OtherMessage(b"{}"), "live")])) == [event]


def test_what_has_no_time_or_no_object_is_not_wanted() -> None:
    filters = Filters(until=NOON, any_message=True)
    assert not filters.select([Arrival(OtherMessage(b'{"occurred_at":"soon"}'), "live")])
    assert not filters.select([Arrival(Unreadable(b"[", "not JSON"), "live")])


characters = st.sampled_from(["a", "B", "_", "%", "\\", "*", "?", "[", "]", "!", "-"])
pieces = st.sampled_from(["[!]]", "[]]", "[!]", "[]", "[a-B]", "[!a", "[!!]", "[]!]"]) | characters


@given(st.lists(pieces, max_size=5).map("".join), st.text(characters, max_size=5))
@example("[!]]*", "ab")
@example("[!]", "[!]")
@example("[]]", "]")
def test_what_a_pattern_matches_the_database_lets_through(pattern: str, name: str) -> None:
    filters = Filters(activity_types=(pattern, "[]"))
    matches = any(fnmatch.fnmatchcase(name, p) for p in filters.activity_types)
    wanted = list(filters.select([arrival(activity_type=name)]))
    assert bool(wanted) == matches
    likes = filters.selection(None).activity_likes
    found = is_like(name, likes)
    assert found or not matches
    assert found == matches or not filters.is_all_sql


@given(st.lists(pieces, max_size=5).map("".join), st.text(characters, max_size=5))
@example("[!]]*", "ab")
@example("[!]", "[!]")
@example("[!]", "b")
def test_what_the_database_excludes_is_not_wanted(pattern: str, name: str) -> None:
    filters = Filters(excluded_types=(pattern, "[]"))
    is_wanted = bool(filters.select([arrival(activity_type=name)]))
    assert is_wanted == (not any(fnmatch.fnmatchcase(name, p) for p in filters.excluded_types))
    is_excluded = is_like(name, filters.selection(None).excluded_likes)
    assert not (is_excluded and is_wanted)
    assert is_excluded != is_wanted or not filters.is_all_sql


def is_like(name: str, likes: Sequence[str]) -> bool:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like = on")
        query = r"SELECT ? LIKE ? ESCAPE '\'"
        return any(connection.execute(query, (name, like)).fetchone()[0] for like in likes)


def test_a_pattern_too_long_for_a_database_is_left_to_the_filter() -> None:
    filters = Filters(activity_types=("a" * 60_000 + "*",))
    assert filters.selection(None).activity_likes == ["%"]
    excluding = Filters(excluded_types=filters.activity_types)
    assert excluding.selection(None).excluded_likes == []
    assert not (filters.is_all_sql or excluding.is_all_sql)


@pytest.mark.parametrize("names", [("A",), ("A*",), ()])
def test_a_type_of_any_length_is_not_kept(names: tuple[str, ...]) -> None:
    filters = Filters(activity_types=names, excluded_types=("B*",))
    name = "A" * 10_000
    held = sys.getrefcount(name)
    filters.select([arrival(activity_type=name)])
    assert sys.getrefcount(name) == held


NOTHING = "entity_type=None, entity_id=None, until=None"
EXCLUDING_A = "{'excluded_types': ('A',)}"


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, ""),
        (
            {"activity_types": ("A",), "grep": "x"},
            f"Filters(activity_types=('A',), {NOTHING}, query=None, grep='x')",
        ),
        (
            {"excluded_types": ("A",)},
            f"Filters(activity_types=(), {NOTHING}, query=None, grep=None)" + EXCLUDING_A,
        ),
    ],
)
def test_a_place_that_was_stored_is_found_by_later_versions(
    fields: dict[str, Any], key: str
) -> None:
    assert Filters(**fields).key == key
    assert Filters(**fields, not_grep="n").key != key


@pytest.mark.parametrize(
    ("occurred_at", "fields", "is_wanted"),
    [
        ("infinity", {"activity_types": ("TASK_*",)}, True),
        ("infinity", {"activity_types": ("USER_*",)}, False),
        ("infinity", {"query": "meta.n > `1`"}, True),
        ("infinity", {"grep": "milk"}, True),
        ("infinity", {"grep": "bread"}, False),
        ("infinity", {"not_grep": "milk"}, False),
        ("infinity", {"excluded_types": ("TASK_*",)}, False),
        ("infinity", {"until": NOON}, False),
        ("20251-05-01 12:00:00+00", {"until": NOON}, False),
        ("-infinity", {"until": NOON}, True),
        ("0044-03-15 12:00:00+00 BC", {"until": NOON}, True),
    ],
)
def test_an_entry_outside_of_the_calendar_is_filtered_like_any_other(
    occurred_at: str, fields: dict[str, Any], is_wanted: bool
) -> None:
    row = arrival().message
    assert isinstance(row, Entry)
    odd = unreadable_entry(msgspec.structs.asdict(row) | {"occurred_at": occurred_at})
    assert bool(Filters(**fields).select([Arrival(odd, "history")])) == is_wanted
