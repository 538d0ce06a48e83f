"""Keys are the page's where nobody types, and the browser's own stay the browser's."""

import pytest

from tests.page_modules import result_of


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"key": "End"}, "follow"),
        ({"key": "?"}, "help"),
        ({"key": "f", "ctrlKey": True}, None),
        ({"key": "End", "altKey": True}, None),
        ({"key": "u", "target": {"tagName": "INPUT"}}, None),
        ({"key": "Escape", "target": {"tagName": "INPUT"}}, "close"),
        ({"key": "u", "target": {"tagName": "BUTTON"}}, "users"),
    ],
)
def test_a_key_is_a_command(event: dict[str, object], expected: str | None) -> None:
    assert result_of("keys.js", "return m.commandOf(given[0])", event) == expected
