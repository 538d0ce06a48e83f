"""A query says what a command line's options do; what it cannot say is named."""

import uuid
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.filters import Filters
from lykke_cli.web.queries import COUNTS, FOLLOWING, HISTORY, USERS, Asked, asked, user_of
from lykke_cli.web.refusals import Refusal

THING = uuid.UUID("3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10")


def read(text: str, known: frozenset[str] = HISTORY) -> Asked:
    return asked(text.encode(), known)


def test_nothing_asked_is_everything() -> None:
    assert read("") == Asked(filters=Filters())
    assert not read("").says_where


def test_the_filters_are_those_of_the_command_line() -> None:
    query = urlencode(
        {
            "activity_type": ["TASK_*", "MESSAGE_SENT"],
            "exclude": "TASK_PUNTED",
            "entity_type": "task",
            "entity_id": str(THING),
            "until": "2026-01-31T12:00:00Z",
            "query": "meta.priority=='high'",
            "grep": "a+b",
            "not_grep": "c&d",
        },
        doseq=True,
    )
    assert read(query).filters == Filters(
        activity_types=("TASK_*", "MESSAGE_SENT"),
        excluded_types=("TASK_PUNTED",),
        entity_type="task",
        entity_id=THING,
        until=datetime(2026, 1, 31, 12, tzinfo=UTC),
        query="meta.priority=='high'",
        grep="a+b",
        not_grep="c&d",
    )


def test_where_to_begin() -> None:
    assert read("since=2026-01-31&limit=5").since == datetime(2026, 1, 31, tzinfo=UTC)
    assert read("limit=5").last == 5 and read("first=5").first == 5
    following = read("since=1h&last=3", FOLLOWING)
    assert following.last == 3 and following.since is not None and following.says_where
    assert read("cursor=abc&grep=x", FOLLOWING).cursor == "abc"
    assert not read("grep=x", FOLLOWING).says_where


def test_an_older_page_goes_on_before_an_entry() -> None:
    place = urlencode({"before": f"2026-01-31T12:00:00.000001Z,{THING}"})
    page = read(f"order=desc&limit=5&format=csv&{place}")
    assert (page.newest_first, page.last, page.as_csv) == (True, 5, True)
    assert page.before == (datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC), str(THING))


def test_what_is_looked_up() -> None:
    assert read("q=ann%40&limit=3", USERS).q == "ann@"
    assert read("buckets=7&activity_type=A", COUNTS).buckets == 7


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sinec=1h", "'sinec' is not understood here: there are activity_type, before, cursor"),
        ("last=3", "'last' is not understood here"),
        ("since=1h&since=2h", "since is there 2 times"),
        ("since=soon", "since: 'soon' is not a time"),
        ("until=7", "until: '7' has no unit"),
        ("since=1h&until=2h", "since is not before until"),
        ("limit=0", "limit is '0', not a number"),
        ("limit=-1", "limit is '-1'"),
        ("limit=1.5", "limit is '1.5'"),
        ("limit=%D9%A3", "limit is"),
        ("limit=99999999999999999999999999", "limit is"),
        ("first=many", "first is 'many'"),
        ("limit=1&first=1", "limit is the newest N, first the oldest"),
        ("cursor=x&since=1h", "cursor says where to begin"),
        ("cursor=x&limit=1", "cursor says where to begin"),
        ("order=newest", "order is 'newest': it may be asc or desc"),
        ("format=xml", "format is 'xml': it may be ndjson or csv"),
        ("order=desc&first=1", "order=desc goes with limit"),
        (f"before=2026-01-31,{THING}", "before goes with order=desc"),
        ("order=desc&before=2026-01-31", "before is '2026-01-31': write an entry's occurred_at"),
        (f"order=desc&before=soon,{THING}", "before is 'soon,"),
        ("cursor=x&format=csv", "cursor says where to begin"),
        ("cursor=x&order=desc", "cursor says where to begin"),
        ("entity_id=7", "entity_id: '7' is not a UUID"),
        ("query=a[", "query is not a JMESPath expression"),
        ("query=" + "(" * 400, "query is"),
        ("query=" + "|".join(["[@,@][]"] * 3), "query makes more than 2 lists"),
        ("grep=(", "grep is not a regular expression: unclosed group"),
        ("grep=(?%3Da)", "grep is not a regular expression: look-around"),
        ("not_grep=(", "not_grep is not a regular expression"),
        ("grep=" + "a" * 201, "grep has more than 200 characters"),
        ("query=" + "a" * 501, "query has more than 500 characters"),
        ("activity_type=%00", "activity_type has a character 0"),
        ("grep=%FF", "The query is not read"),
        ("&".join(["activity_type=a"] * 101), "The query is not read"),
        ("grep=" + "a" * 9_000, "The query has more than 8 KiB"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(query: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(query)
    assert refused.value.problem.startswith(said)
    assert (refused.value.status, refused.value.code) == (400, "bad_request")


@pytest.mark.parametrize(
    ("query", "known", "said"),
    [
        ("q=" + "a" * 201, USERS, "q has more than 200 characters"),
        ("grep=x", USERS, "'grep' is not understood here"),
        ("buckets=1001", COUNTS, "buckets is '1001', not a number from 1 to 1000"),
        ("query=x", COUNTS, "'query' is not understood here"),
    ],
)
def test_what_cannot_be_looked_up_is_refused(query: str, known: frozenset[str], said: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(query, known)
    assert refused.value.problem.startswith(said)


@pytest.mark.filterwarnings("ignore:deprecated string literal")
@given(st.text(max_size=30) | st.from_regex(r"[-()*+?\[\]a.@`'|&{}]{0,30}"))
def test_whatever_stands_in_a_query_it_is_understood_or_refused(text: str) -> None:
    for known in (HISTORY, USERS, COUNTS):
        for name in known:
            try:
                read(urlencode({name: text}, errors="surrogatepass"), known)
            except Refusal as refusal:
                assert refusal.problem.endswith((".", ": ")) or name in refusal.problem


def test_a_user_is_a_uuid_in_any_of_its_forms() -> None:
    assert user_of(THING.hex.upper()) == THING
    with pytest.raises(Refusal, match="The user: 'me' is not a UUID"):
        user_of("me")
