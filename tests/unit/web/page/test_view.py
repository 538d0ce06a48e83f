"""What the page shows is said by the address, with the command line's filters."""

from tests.page_modules import result_of

ANNA = "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10"


def test_a_view_is_the_same_after_its_way_through_the_address() -> None:
    view = {
        "users": [ANNA],
        "filters": {
            "activity_type": ["TASK_*", "A B"],
            "exclude": ["*_DEBUG"],
            "entity_type": "task",
            "grep": "a&b=c #d",
            "query": "meta.minutes > `30`",
            "since": "2h",
            "until": "2026-01-31T12:00:00Z",
        },
    }
    assert result_of("view.js", "return m.viewOf(m.fragmentOf(given[0]))", view) == view


def test_what_is_no_user_and_what_is_not_known_is_left_out() -> None:
    fragment = f"#user=me&user={ANNA}&user={ANNA}&grep=&token=secret&onload=x"
    view = result_of("view.js", "return m.viewOf(given[0])", fragment)
    assert view == {"users": [ANNA], "filters": {}}


def test_the_users_of_a_view_are_few() -> None:
    fragment = "&".join(f"user=3f2b8c1e-5d7a-4b9c-9e1f-{n:012}" for n in range(20))
    assert len(result_of("view.js", "return m.viewOf(given[0])", fragment)["users"]) == 8


def test_filters_go_to_the_bridge_under_their_names_without_those_that_it_does_not_take() -> None:
    view = {"users": [], "filters": {"activity_type": ["A", "B"], "grep": "x", "since": "2h"}}
    pairs = result_of("view.js", "return m.pairsOf(given[0], ['since'])", view)
    assert pairs == [["activity_type", "A"], ["activity_type", "B"], ["grep", "x"]]


def test_the_filters_of_a_view_are_said_in_short() -> None:
    body = "return m.summaryOf(m.viewOf(given[0]))"
    assert result_of("view.js", body, "since=2h&activity_type=A*&activity_type=B") == "A* B 2h"


def test_a_filter_that_is_emptied_goes() -> None:
    body = "return m.withFilters(m.viewOf(given[0]), { since: '', exclude: [], grep: 'y' })"
    view = result_of("view.js", body, "since=2h&exclude=A&grep=x&entity_type=task")
    assert view["filters"] == {"grep": "y", "entity_type": "task"}
