"""Foreign text on the page is as harmless, and looks as it does, in the terminal."""

from lykke_cli.cli.output.palette import Color, color_of_type
from lykke_cli.cli.output.sanitize import visible
from tests.page_modules import result_of

HOSTILE = [
    "plain",
    "<img src=x onerror=alert(1)>",
    "\x1b]0;title\x07\x1b[2J",
    "a\tb\nc\rd\x00",
    "\u202egnp.exe",
    "zero\u200bwidth\u2060\ufeff",
    "\u00ad\u034f\u115f\u3164",
    "\U000e0041\U000e01f0",
    "Ægir 日本 👩‍🚀 é",
]
NAMES = {
    Color.RED: "red",
    Color.GREEN: "green",
    Color.YELLOW: "yellow",
    Color.CYAN: "cyan",
    Color.BLUE: "blue",
    Color.MAGENTA: "magenta",
    Color.BRIGHT_BLUE: "violet",
    Color.BRIGHT_MAGENTA: "pink",
}


def test_what_is_dangerous_or_unseen_is_shown_as_the_command_line_shows_it() -> None:
    shown = result_of("text.js", "return given[0].map(m.visible)", HOSTILE)
    assert shown == [visible(text) for text in HOSTILE]


def test_half_a_surrogate_pair_is_shown() -> None:
    assert result_of("text.js", r"return m.visible('\ud800x')") == r"\ud800x"


def test_text_of_several_lines_keeps_them() -> None:
    assert result_of("text.js", "return m.visibleLines(given[0])", "a\n\tb") == "a\n\\tb"


def test_a_type_has_the_colour_that_it_has_in_the_terminal() -> None:
    types = ["TASK_COMPLETED", "TaskPunted", "LOGIN_FAILED", "MESSAGE_SENT", "Ægir", "ORDER_PAID"]
    colors = result_of("text.js", "return given[0].map(m.colorOf)", types)
    assert colors == [NAMES[color_of_type(name)] for name in types]


def test_details_begin_with_what_one_looks_for_first() -> None:
    meta = {"nested": {"a": 1}, "list": [1, 2], "minutes": 48, "empty": "", "title": "It\u202e is"}
    details = result_of("text.js", "return m.detailsOf(given[0])", meta)
    assert details == 'title="It\\u202e is" minutes=48 empty="" nested={1} list=[2]'


def test_details_of_what_is_no_object_and_of_what_is_huge() -> None:
    shown = result_of(
        "text.js",
        "return [m.detailsOf('a b'), m.detailsOf(null), m.detailsOf({a: 'x'.repeat(1e6)}).length]",
    )
    assert shown == ['"a b"', "null", 400]


def test_a_number_that_was_rounded_says_so() -> None:
    body = "return m.detailsOf(JSON.parse(given[0]))"
    details = result_of("text.js", body, '{"big": 12345678901234567891, "safe": 9007199254740991}')
    assert details == "big=≈12345678901234567000 safe=9007199254740991"


def test_just_after_a_time_is_a_microsecond_later() -> None:
    times = ["2026-01-31T12:00:00.000000Z", "2026-12-31T23:59:59.999999Z"]
    later = ["2026-01-31T12:00:00.000001Z", "2027-01-01T00:00:00.000000Z"]
    assert result_of("text.js", "return given[0].map(m.justAfter)", times) == later
