"""The table keeps its columns straight, its lines short and its reader safe."""

import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from lykke_cli.application.messages import Arrival, Entry, decode, format_time, unreadable_entry
from lykke_cli.cli.output.live_table import LiveTable
from lykke_cli.cli.output.terminal import ColorChoice, Terminal

WIDTHS = [60, 80, 120, 200]
USER = "9b2f0c1e-7a43-4d1f-8f2b-1c6a5d3e2f10"
TASK = "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11"
NOW = datetime(2026, 11, 23, 8, 30, 15, 123456, tzinfo=UTC)
HOSTILE = [
    "[/oops]",
    "[bold red]x[/]",
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "\u202egnp.exe",
    "タスク完了タスク完了タスク",
    "🎉❤\ufe0f👍🏽👨\u200d👩\u200d👧🇩🇰",
    "a\nb\tc\rd",
    "e\u0301" * 40,
    "x" * 5000,
    "",
]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def a_table(
    width: int = 80,
    *,
    color: ColorChoice = ColorChoice.NEVER,
    show_user: bool = False,
    utc: bool = True,
    relative: bool = False,
    term: str = "xterm",
    zone: tzinfo = timezone(timedelta(hours=2)),
    columns: Sequence[str] | None = None,
    emails: Mapping[str, str] | None = None,
    wrap: bool = False,
    sought: re.Pattern[str] | None = None,
) -> LiveTable:
    environ = {"TERM": term}
    terminal = Terminal(io.BytesIO(), io.BytesIO(), color=color, environ=environ, columns=width)
    return LiveTable(
        terminal,
        relative=relative,
        show_user=show_user,
        columns=columns,
        emails=emails,
        wrap=wrap,
        sought=sought,
        zone=UTC if utc else zone,
        now=lambda: NOW,
    )


def entry(
    activity: str = "TASK_COMPLETED",
    kind: str | None = "task",
    meta: bytes = b'{"title":"Buy milk"}',
    *,
    entity_id: str | None = TASK,
    occurred_at: datetime = NOW,
) -> Arrival:
    message = Entry(
        id=TASK,
        user_id=USER,
        activity_type=activity,
        occurred_at=format_time(occurred_at),
        entity_id=entity_id,
        entity_type=kind,
        meta=msgspec.Raw(meta),
    )
    return Arrival(message, "live", f"auditlog:{USER}")


def live(payload: bytes) -> Arrival:
    return Arrival(decode(payload), "live", f"auditlog:{USER}", payload)


def all_lines(table: LiveTable, *messages: Arrival) -> list[str]:
    return table.render(messages).decode().split("\n")[:-1]


def lines(table: LiveTable, *messages: Arrival) -> list[str]:
    """Without those that tell the day."""
    return [line for line in all_lines(table, *messages) if "--- 20" not in line]


def cell(text: str) -> bytes:
    return f'{{"k":"{text}"}}'.encode() if text.isprintable() else text.encode()


def awkward() -> list[Arrival]:
    rows = [entry(text, text, cell(text)) for text in HOSTILE]
    rows += [entry(text, text, cell(text), entity_id=None) for text in HOSTILE]
    rows += [live(text.encode()) for text in HOSTILE]
    return [*rows, entry(), live(b'{"type":"ack","x":1}'), live(b"\xff\x1b[2J")]


@pytest.mark.parametrize("show_user", [False, True])
@pytest.mark.parametrize("width", [1, 8, 20, 40, *WIDTHS])
def test_every_message_is_one_harmless_line_that_fits(width: int, show_user: bool) -> None:
    table = a_table(width, show_user=show_user)
    messages = awkward()
    shown = [*table.header().decode().splitlines(), *all_lines(table, *messages)]
    assert len(shown) == 1 + 1 + len(messages)  # the header, the day
    for line in shown:
        assert cell_len(line) <= width
        assert line.replace("\u0301", "").isprintable()


@given(st.text(max_size=80), st.sampled_from(WIDTHS))
def test_any_text_keeps_to_its_line(text: str, width: int) -> None:
    meta = b"[1]" if not text else text.encode("utf-8", "replace")
    rows = lines(a_table(width), entry(text, text, meta), live(meta))
    assert len(rows) == 2
    assert all(cell_len(row) <= width for row in rows)


@pytest.mark.parametrize("show_user", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_columns_start_at_the_same_cell(width: int, show_user: bool) -> None:
    table = a_table(width, show_user=show_user)
    header = table.header().decode()
    details = header.index("DETAILS")
    for text in HOSTILE:
        (line,) = lines(table, entry(text, text, b'{"MARK":1}'))
        assert cell_len(line[: line.index("MARK=1")]) == details


@pytest.mark.parametrize(("width", "time"), [(60, "08:30:15 "), (120, "08:30:15.123 ")])
def test_times_are_as_long_as_there_is_room_for(width: int, time: str) -> None:
    assert lines(a_table(width), entry())[0].startswith(time)


def test_times_are_local_unless_utc_is_asked_for() -> None:
    table = a_table(120, utc=False)
    assert table.header().startswith(b"TIME ")
    assert all_lines(table, entry())[0] == "--- 2026-11-23 UTC+02:00 ---"
    assert lines(table, entry())[0].startswith("10:30:15.123 ")
    assert a_table(120).header().startswith(b"TIME UTC ")


def test_a_time_at_the_end_of_the_calendar_is_shown_in_utc() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    day, line = all_lines(a_table(120, utc=False), entry(occurred_at=end))
    assert day == "--- 9999-12-31 UTC ---" and line.startswith("23:59:59.999 ")


@pytest.mark.parametrize("width", WIDTHS)
def test_ages_take_the_place_of_times(width: int) -> None:
    table = a_table(width, relative=True)
    earlier = [NOW - timedelta(days=days, hours=3) for days in (4000, 364, 0)]
    shown = lines(table, *(entry(occurred_at=moment) for moment in earlier), live(b"{}"))
    assert table.header().startswith(b"AGE        ACTIVITY")
    assert [line[:8].rstrip() for line in shown] == ["10y ago", "364d ago", "3h ago", "now"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_line_tells_each_new_day_and_its_zone(width: int) -> None:
    table = a_table(width)
    yesterday = entry(occurred_at=NOW - timedelta(days=1))
    shown = all_lines(table, yesterday, yesterday, entry(), entry())
    assert [line if line.startswith("-") else "" for line in shown] == [
        *("--- 2026-11-22 UTC ---", "", ""),
        *("--- 2026-11-23 UTC ---", "", ""),
    ]
    assert lines(table, entry()) == all_lines(table, entry())


def test_a_change_to_summer_time_is_told_like_a_new_day() -> None:
    table = a_table(80, utc=False, zone=ZoneInfo("Europe/Berlin"))
    before = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    twice = [entry(occurred_at=moment) for moment in (before, before + timedelta(hours=1))]
    assert [line.partition(" ●")[0] for line in all_lines(table, *twice)] == [
        *("--- 2026-10-25 UTC+02:00 ---", "02:30:00"),
        *("--- 2026-10-25 UTC+01:00 ---", "02:30:00"),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_ages_are_told_without_days(width: int) -> None:
    table = a_table(width, relative=True)
    assert len(all_lines(table, entry())) == 1


@pytest.mark.parametrize(
    ("meta", "details"),
    [
        (b"null", ""),
        (b"{}", ""),
        (b'{"a":1,"b":true,"c":null}', "a=1 b=true c=null"),
        (b'{"a":"two words","b":""}', 'a="two words" b=""'),
        (b'{"b":{"c":1},"a":[1, 2, 3],"d":1,"text":"x"}', "text=x d=1 a=[3] b={…}"),
        (b'{"a":{},"b":[]}', "a={} b=[]"),
        (b'{"n":12345678901234567890.10}', "n=12345678901234567890.10"),
        (b"[1, 2]", "[1,2]"),
        (b'"text"', "text"),
        (b'{"a":"\\u001b[2J"}', "a=\\x1b[2J"),
        (b'{"a":"\\ud800"}', '{"a":"\\ud800"}'),
        (b"\xff", "\ufffd"),
        (b"[" * 100_000, "[" * 71 + "…"),
    ],
)
def test_details_are_keys_and_values(meta: bytes, details: str) -> None:
    table = a_table(120)
    at = table.header().decode().index("DETAILS")
    assert lines(table, entry(meta=meta))[0][at:] == details


@pytest.mark.parametrize(
    ("width", "kind", "entity_id", "shown"),
    [
        (80, "task", TASK, "4a1d6cc5"),
        (140, "task", TASK, "task 4a1d6cc5"),
        (130, "a_long_type", TASK, "a_long… 4a1d6cc5"),
        (120, "a_long_type", TASK, "4a1d6cc5"),
        (80, None, TASK, "4a1d6cc5"),
        (80, "task", None, "task"),
        (80, None, None, ""),
        (200, "task", TASK, f"task {TASK}"),
    ],
)
def test_the_entity_is_its_type_and_as_much_of_its_id_as_fits(
    width: int, kind: str | None, entity_id: str | None, shown: str
) -> None:
    table = a_table(width)
    header = table.header().decode()
    line = lines(table, entry(kind=kind, entity_id=entity_id))[0]
    assert line[header.index("ENTITY") : header.index("DETAILS")].rstrip() == shown


def test_it_tells_what_came_live_from_what_came_from_the_database() -> None:
    message = entry().message
    old, missed = Arrival(message, "history"), Arrival(message, "recovered")
    shown = lines(a_table(80), old, entry(), missed)
    assert [line[8:11] for line in shown] == [" ○ ", " ● ", " ↺ "]


def test_the_user_is_shown_when_asked_for_even_of_what_is_not_an_entry() -> None:
    table = a_table(80, show_user=True)
    for line in lines(table, entry(), live(b'{"type":"ack"}'), live(b"?")):
        assert line[11:20] == "9b2f0c1e "


@pytest.mark.parametrize(("width", "shown"), [(80, USER[:8]), (200, USER[:8]), (300, USER)])
def test_an_id_is_shown_in_full_or_short(width: int, shown: str) -> None:
    (line,) = lines(a_table(width, show_user=True), entry())
    assert line.split()[2] == shown


def test_other_messages_are_named_by_their_type() -> None:
    shown = lines(a_table(120), live(b'{"type":"ack","n":1}'), live(b'{"type":1,"n":2}'))
    assert shown[0].split()[1:] == ["●", "ack", "n=1"]
    assert shown[1].split()[1:] == ["●", "message", "n=2", "type=1"]


def test_what_cannot_be_read_is_shown_with_the_reason() -> None:
    (line,) = lines(a_table(120), live(b"hello \xff\x1b[2J"))
    assert line.split(maxsplit=3)[2:] == ["unreadable", "not UTF-8: hello \\xff\\x1b[2J"]


def test_colours_are_there_only_when_on_and_change_nothing_else() -> None:
    messages = awkward()
    plain = a_table(80).render(messages).decode()
    assert "\x1b" not in plain
    coloured = a_table(80, color=ColorChoice.ALWAYS).render(messages).decode()
    unpainted = "\n".join(line.rstrip() for line in ESCAPE.sub("", coloured).split("\n"))
    assert unpainted == "\n".join(line.rstrip() for line in plain.split("\n"))


@pytest.mark.parametrize(
    ("activity", "code"),
    [("TASK_COMPLETED", 32), ("TASK_PUNTED", 33), ("MESSAGE_SENT", 36), ("MESSAGE_RECEIVED", 34)],
)
def test_known_activities_have_their_own_colour(activity: str, code: int) -> None:
    (line,) = lines(a_table(80, color=ColorChoice.ALWAYS), entry(activity))
    assert f"\x1b[{code}m{activity}\x1b[0m" in line


def test_only_colours_of_the_theme_are_used_that_its_ground_is_not_likely_to_hide() -> None:
    table = a_table(120, color=ColorChoice.ALWAYS, show_user=True, term="xterm-256color")
    text = table.render([*(entry(f"TYPE_{n}") for n in range(200)), *awkward()]).decode()
    codes = {code for codes in ESCAPE.findall(text) for code in codes[2:-1].split(";")}
    assert codes <= {"0", "1", "2", "31", "32", "33", "34", "35", "36", "94", "95"}


@pytest.mark.parametrize("activity", ["TASK_FAILED", "UserDeletedEvent", "x.error", "DENIED"])
def test_what_went_wrong_is_red(activity: str) -> None:
    (line,) = lines(a_table(120, color=ColorChoice.ALWAYS), entry(activity))
    assert f"\x1b[31m{activity}\x1b[0m" in line


def test_ids_and_keys_are_dim() -> None:
    table = a_table(200, color=ColorChoice.ALWAYS, columns=["id", "entity", "details"])
    (line,) = lines(table, entry(meta=b'{"n":1}'))
    whole, short = f"\x1b[2m{TASK}\x1b[0m", f"\x1b[2m{TASK[:8]}\x1b[0m"
    assert line.split() == [whole, "task", short, "\x1b[2mn=\x1b[0m1"]


def test_each_user_has_a_colour_whatever_happens() -> None:
    def color(number: int, activity: str) -> str:
        payload = f'{{"type":"{activity}"}}'.encode()
        shown = Arrival(decode(payload), "live", f"auditlog:{number}", payload)
        (line,) = lines(a_table(80, color=ColorChoice.ALWAYS, show_user=True), shown)
        return line.split(" ")[2].partition("m")[0]

    users = range(30)
    assert [color(n, "A") for n in users] == [color(n, "B") for n in users]
    assert len({color(n, "A") for n in users}) > 4


@pytest.mark.parametrize(
    ("width", "shown"),
    [(80, "anna"), (160, "anna@example.com")],
)
def test_an_email_takes_the_place_of_the_users_id(width: int, shown: str) -> None:
    table = a_table(width, show_user=True, emails={USER: "anna@example.com"})
    assert lines(table, entry())[0].split()[2] == shown


@pytest.mark.parametrize("email", HOSTILE)
@pytest.mark.parametrize("width", WIDTHS)
def test_an_email_may_be_anything(width: int, email: str) -> None:
    table = a_table(width, show_user=True, emails={USER: email})
    (line,) = lines(table, entry())
    assert cell_len(line) <= width
    assert line.replace("\u0301", "").isprintable()


@pytest.mark.parametrize("text", ["milk " * 60, "x" * 300, "タスク" * 60, "e\u0301" * 400])
@pytest.mark.parametrize("width", WIDTHS)
def test_wrapped_details_are_whole_and_stay_in_their_column(width: int, text: str) -> None:
    table = a_table(width, wrap=True)
    at = table.header().decode().index("DETAILS")
    first, *more = lines(table, entry(meta=cell(text)))
    assert first.startswith("08:30:15") and more
    assert all(line[:at].isspace() for line in more)
    assert all(cell_len(line) <= width for line in (first, *more))
    whole = "".join(line[at:] for line in (first, *more))
    assert f"k={text}".replace(" ", "") in whole.replace(" ", "").replace('"', "")


def test_wrapped_details_are_broken_between_words() -> None:
    text = " ".join(str(number) for number in range(100, 200))
    shown = lines(a_table(80, wrap=True), entry(meta=cell(text)))
    assert all(line.split()[-1].strip('"').isdigit() for line in shown)
    assert '{"a":[1]}' in lines(a_table(80, wrap=True), entry(meta=b'{"k":{"a":[1]}}'))[0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("padding", ["x" * 300, "word " * 60, "タスク " * 60])
def test_what_is_looked_for_is_marked_and_in_view(width: int, padding: str) -> None:
    table = a_table(width, color=ColorChoice.ALWAYS, sought=re.compile("needle"))
    meta = [f'{{"a":"{padding}","b":"a needle here"}}', f'{{"k":["{padding}",{{"b":"needle"}}]}}']
    for line in lines(table, *(entry(meta=each.encode()) for each in meta)):
        assert "\x1b[7mneedle\x1b[0m" in line
        assert cell_len(ESCAPE.sub("", line)) <= width
    (short,) = lines(table, entry(meta=b'{"k":"needle"}'))
    assert "…" not in short


def test_what_is_looked_for_is_marked_wherever_it_is_shown() -> None:
    table = a_table(80, color=ColorChoice.ALWAYS, sought=re.compile("TASK|o=|$"), wrap=True)
    (line,) = lines(table, entry("A_TASK", meta=b'{"no":1}'))
    assert "A_\x1b[0m\x1b[7mTASK\x1b[0m" in line
    assert line.endswith("\x1b[2mn\x1b[0m\x1b[7mo=\x1b[0m1")


def test_an_unknown_activity_has_the_same_colour_every_time() -> None:
    first, second = (
        lines(a_table(80, color=ColorChoice.ALWAYS), entry("LOGIN"))[0] for _ in range(2)
    )
    assert first == second
    assert ESCAPE.search(first.partition("\x1b[0m")[2])


def test_a_resized_terminal_gets_a_new_header() -> None:
    environ = {"COLUMNS": "80"}
    table = LiveTable(Terminal(io.BytesIO(), io.BytesIO(), environ=environ))
    assert len(all_lines(table, entry())) == 2
    environ["COLUMNS"] = "120"
    shown = lines(table, entry())
    assert shown[0].startswith("TIME UTC") and len(shown) == 2
    assert len(lines(table, entry())) == 1


def test_an_entry_outside_of_the_calendar_shows_its_id_and_user_and_no_time() -> None:
    odd = unreadable_entry({"id": "an id", "user_id": "a user", "occurred_at": "infinity"})
    table = a_table(200, show_user=True)
    table.header()
    [line] = lines(table, Arrival(odd, "history"))
    time, rest = line[:13], line[13:]
    assert not time.strip()
    assert "an id" in rest and "a user" in rest


def test_something_else_may_be_sought_for_a_while() -> None:
    table = a_table(80, color=ColorChoice.ALWAYS, sought=re.compile("TASK"))

    def marked() -> list[str]:
        return re.findall("\x1b\\[7m([A-Z]+)", table.render([entry("TASK_DONE")]).decode())

    assert marked() == ["TASK"]
    table.seek(re.compile("done", re.IGNORECASE))
    assert marked() == ["DONE"]
    table.seek(None)
    assert marked() == ["TASK"]
