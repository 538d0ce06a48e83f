"""What each `--output` prints, in a pipe and on a terminal."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.messages import Arrival, Entry, decode
from lykke_cli.cli.output.renderers import Renderer, make_renderer
from lykke_cli.cli.output.template import TemplateRenderer
from lykke_cli.cli.output.terminal import ColorChoice, Output, Terminal

USER = "9b2f0c1e-7a43-4d1f-8f2b-1c6a5d3e2f10"
CHANNEL = f"auditlog:{USER}"
ESCAPE = re.compile(rb"\x1b\[[0-9;]*m")


class Stream(io.BytesIO):
    def __init__(self, *, tty: bool = False) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def a_terminal(
    *, tty: bool = False, color: ColorChoice = ColorChoice.AUTO, **environ: str
) -> Terminal:
    return terminal_in(environ, tty=tty, color=color)


def terminal_in(environ: Mapping[str, str], *, tty: bool, color: ColorChoice) -> Terminal:
    return Terminal(Stream(tty=tty), Stream(tty=tty), color=color, environ=environ)


def an_entry(**changes: object) -> Entry:
    fields: dict[str, object] = {
        "id": "11111111-1111-4111-8111-111111111111",
        "user_id": USER,
        "activity_type": "TASK_COMPLETED",
        "occurred_at": "2026-11-23T08:30:00.000000Z",
        "entity_id": "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11",
        "entity_type": "task",
        "meta": b'{"n":1}',
    }
    fields |= changes
    fields["meta"] = msgspec.Raw(fields["meta"])  # type: ignore[call-overload]
    return Entry(**fields)  # type: ignore[arg-type]


def live(payload: bytes) -> Arrival:
    return Arrival(decode(payload), "live", CHANNEL, payload)


def history(entry: Entry) -> Arrival:
    return Arrival(entry, "history", CHANNEL)


def printed(renderer: Renderer, *batches: Sequence[Arrival]) -> bytes:
    return renderer.header() + b"".join(map(renderer.render, batches)) + renderer.footer()


def rendered(output: Output, *messages: Arrival, tty: bool = False, unsafe: bool = False) -> bytes:
    return printed(make_renderer(output, a_terminal(tty=tty), unsafe=unsafe), messages)


def test_a_pipe_gets_ndjson_by_default() -> None:
    renderer = make_renderer(None, a_terminal())
    assert printed(renderer, [history(an_entry())]) == an_entry().to_json() + b"\n"


def test_a_terminal_gets_a_table_by_default() -> None:
    renderer = make_renderer(None, a_terminal(tty=True, TERM="dumb"))
    assert renderer.header().startswith(b"TIME UTC")


def test_ndjson_prints_nothing_for_nothing() -> None:
    assert rendered(Output.NDJSON) == b""


def test_ndjson_is_one_object_per_line_whatever_comes() -> None:
    other = live(b'{"type":\r\n"acknowledgment"}')
    lines = rendered(Output.NDJSON, history(an_entry()), other, live(b"no\xff\n")).splitlines()
    assert lines[0] == an_entry().to_json()
    assert json.loads(lines[1]) == {"type": "acknowledgment"}
    unreadable = json.loads(lines[2])
    assert unreadable["unreadable"] == "no\ufffd\n"
    assert unreadable["reason"] == "not UTF-8"
    assert base64.b64decode(unreadable["raw_base64"]) == b"no\xff\n"
    assert len(lines) == 3


def test_json_is_one_array_however_it_was_batched() -> None:
    one, two = history(an_entry()), live(b'{"type":"test"}')
    for batches in ([[one, two, one]], [[one], [], [two, one]], [[], [one], [two], [one]]):
        renderer = make_renderer(Output.JSON, a_terminal())
        value = json.loads(printed(renderer, *batches))
        assert value == [an_entry().to_dict(), {"type": "test"}, an_entry().to_dict()]


def test_json_of_nothing_is_an_empty_array() -> None:
    assert rendered(Output.JSON) == b"[]\n"


@pytest.mark.parametrize("output", [Output.NDJSON, Output.JSON])
def test_json_on_a_terminal_is_harmless_and_the_same(output: Output) -> None:
    shown = history(an_entry(activity_type="\u202eevil", meta='{"a":"\x7f\x9b31m"}'.encode()))
    safe = ESCAPE.sub(b"", rendered(output, shown, tty=True))
    assert safe.isascii()
    assert b"\x7f" not in safe
    assert json.loads(safe) == json.loads(rendered(output, shown))


def test_json_is_indented_and_coloured_on_a_terminal_only() -> None:
    shown = rendered(Output.JSON, live(b'{"a":{"b":"c"},"d":[]}'), live(b'{"e":1.50}'), tty=True)
    assert b'\x1b[34;1m"a"\x1b[0m' in shown
    assert ESCAPE.sub(b"", shown).decode().splitlines() == [
        *("[", "  {", '    "a": {', '      "b": "c"', "    },", '    "d": []', "  },"),
        *("  {", '    "e": 1.50', "  }", "]"),
    ]


@pytest.mark.parametrize("output", [Output.JSON, Output.NDJSON, Output.CSV, Output.RAW])
def test_data_in_a_pipe_has_no_colour_whatever_asks_for_it(output: Output) -> None:
    terminal = a_terminal(color=ColorChoice.ALWAYS, FORCE_COLOR="1")
    data = printed(make_renderer(output, terminal), [history(an_entry())])
    assert data == rendered(output, history(an_entry()))


def test_csv_has_a_row_per_message_under_a_header() -> None:
    meta = b'{"a":"b, \\"c\\""}'
    data = rendered(
        Output.CSV,
        history(an_entry(meta=meta)),
        history(an_entry(entity_id=None, entity_type=None, meta=b"null")),
        live(b'{"type":"test"}'),
        live(b"not,json\r\n"),
    )
    assert b"\r\n" not in data.replace(b'not,json\r\n"', b"")
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert rows[0] == "id user_id activity_type occurred_at entity_id entity_type meta".split()
    entry = an_entry()
    moment = "2026-11-23T08:30:00.000000Z"
    assert rows[1] == [
        *(entry.id, USER, "TASK_COMPLETED", moment, entry.entity_id, "task", meta.decode()),
    ]
    assert rows[2] == [entry.id, USER, "TASK_COMPLETED", moment, "", "", ""]
    assert rows[3] == [*[""] * 6, '{"type":"test"}']
    assert rows[4] == [*[""] * 6, "not,json\r\n"]


def test_csv_disarms_formulas() -> None:
    formula = '=HYPERLINK("http://example.com")'
    data = rendered(
        Output.CSV,
        history(an_entry(activity_type=formula, entity_type="@sum", meta=b"-1")),
        live(b"+1"),
    )
    rows = list(csv.reader(io.StringIO(data.decode())))
    assert (rows[1][2], rows[1][5], rows[1][6]) == (f"'{formula}", "'@sum", "'-1")
    assert rows[2][6] == "'+1"


def test_csv_on_a_terminal_is_harmless() -> None:
    data = rendered(Output.CSV, live(b"\x1b[2J"), tty=True)
    assert data.endswith(b",\\x1b[2J\n")


def test_raw_prints_payloads_as_they_came() -> None:
    payloads = [b'{ "type" : "test" }', b"\x1b\xff", b""]
    assert rendered(Output.RAW, *map(live, payloads)) == b'{ "type" : "test" }\n\x1b\xff\n\n'


def test_raw_prints_the_entry_when_there_was_no_payload() -> None:
    assert rendered(Output.RAW, history(an_entry())) == an_entry().to_json() + b"\n"


def test_raw_is_escaped_on_a_terminal_unless_asked_otherwise() -> None:
    assert rendered(Output.RAW, live(b"\x1b[2J\xff"), tty=True) == b"\\x1b[2J\\xff\n"
    assert rendered(Output.RAW, live(b"\x1b[2J\xff"), tty=True, unsafe=True) == b"\x1b[2J\xff\n"


@pytest.mark.parametrize(
    ("tty", "color", "environ", "in_color"),
    [
        (True, ColorChoice.AUTO, {"TERM": "xterm"}, True),
        (True, ColorChoice.AUTO, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, ColorChoice.AUTO, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, ColorChoice.AUTO, {"TERM": "dumb"}, False),
        (True, ColorChoice.NEVER, {"TERM": "xterm"}, False),
        (True, ColorChoice.ALWAYS, {"TERM": "xterm", "NO_COLOR": "1"}, True),
        (False, ColorChoice.AUTO, {"TERM": "xterm"}, False),
        (False, ColorChoice.AUTO, {"FORCE_COLOR": "1"}, True),
        (False, ColorChoice.AUTO, {"CLICOLOR_FORCE": "1"}, True),
        (False, ColorChoice.AUTO, {"FORCE_COLOR": "0", "CLICOLOR_FORCE": ""}, False),
        (False, ColorChoice.AUTO, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (False, ColorChoice.NEVER, {"FORCE_COLOR": "1"}, False),
        (False, ColorChoice.ALWAYS, {}, True),
    ],
)
def test_colour_follows_the_flag_then_the_environment_then_the_stream(
    tty: bool, color: ColorChoice, environ: dict[str, str], in_color: bool
) -> None:
    terminal = terminal_in(environ, tty=tty, color=color)
    assert terminal.stdout_in_color is terminal.stderr_in_color is in_color
    terminal.out.print("text", style="red")
    assert isinstance(terminal.stdout, Stream)
    assert (b"\x1b[" in terminal.stdout.getvalue()) is in_color


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_no_variable_makes_a_pipe_a_terminal(name: str) -> None:
    terminal = terminal_in({name: "1", "TERM": "xterm"}, tty=False, color=ColorChoice.AUTO)
    with terminal.err.status("waiting"):
        pass
    assert isinstance(terminal.stderr, Stream)
    assert b"\x1b" not in ESCAPE.sub(b"", terminal.stderr.getvalue())


def test_consoles_take_no_markup_from_what_they_print() -> None:
    terminal = a_terminal()
    terminal.err.print("[/oops] :smile: " + "long " * 60)
    assert isinstance(terminal.stderr, Stream)
    assert terminal.stderr.getvalue().decode() == "[/oops] :smile: " + "long " * 60 + "\n"


def test_the_width_is_that_of_columns_or_a_default() -> None:
    assert a_terminal(COLUMNS="93").width == 93
    assert a_terminal(COLUMNS="none").width == a_terminal(COLUMNS="0").width == 120
    assert a_terminal(tty=True).width == 80
    assert a_terminal(COLUMNS="93").out.width == 93


def test_write_goes_on_when_the_stream_takes_only_a_part() -> None:
    class Slow(Stream):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            return super().write(data[:3])

    stream = Slow()
    Terminal(stream, Stream(), environ={}).write(b"0123456789")
    assert stream.getvalue() == b"0123456789"


def test_rich_is_not_imported_before_something_is_drawn() -> None:
    code = (
        "import sys\n"
        "from lykke_cli.cli.output.renderers import make_renderer\n"
        "from lykke_cli.cli.output.terminal import Output\n"
        "from lykke_cli.cli.output.terminal import Terminal\n"
        "make_renderer(Output.NDJSON, Terminal.of_process())\n"
        "sys.exit('rich' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_a_template_makes_a_line_of_its_own() -> None:
    shown = history(an_entry(meta=b'{"title":"Buy milk","tags":["a","b"],"n":1.50}'))
    text = "{occurred_at}\\t{activity_type:<16}|{meta.title}|{meta[tags][1]}|{meta.none}|{meta.n}"
    assert printed(TemplateRenderer(text), [shown]) == (
        b"2026-11-23T08:30:00.000000Z\tTASK_COMPLETED  |Buy milk|b||1.5\n"
    )


def test_what_a_template_shows_stays_on_its_line_and_is_harmless() -> None:
    shown = history(an_entry(activity_type="\x1b[31m\n\u202e{id}", meta=b'{"a":"\x7f{meta}"}'))
    line = printed(TemplateRenderer("{activity_type} {meta.a} {{}}"), [shown]).decode()
    assert line == r"\x1b[31m\n\u202e{id} \x7f{meta} {}" + "\n"


@pytest.mark.parametrize(
    "template",
    ["{", "{}", "{0}", "{nothing}", "{id!r}", "{id.__class__!s}", "{id:{meta}}", "{id:99999}"],
)
def test_a_template_reaches_nothing_but_the_entry(template: str) -> None:
    with pytest.raises(UsageMistake, match="--template"):
        TemplateRenderer(template)


def test_a_template_finds_no_attributes() -> None:
    assert printed(TemplateRenderer("{id.__class__}"), [history(an_entry())]) == b"\n"


def test_columns_are_chosen_and_ordered() -> None:
    entry = history(an_entry())
    renderer = make_renderer(Output.CSV, a_terminal(), columns=["entity_type", "id"])
    assert printed(renderer, [entry]).splitlines() == [
        b"entity_type,id",
        b"task,11111111-1111-4111-8111-111111111111",
    ]
    renderer = make_renderer(Output.TABLE, a_terminal(), columns=["activity", "time"])
    title, day, row = printed(renderer, [entry]).decode().splitlines()
    assert title.split() == ["ACTIVITY", "TIME", "UTC"]
    assert day.startswith("--- 20") and day.endswith(" UTC ---")
    assert row.startswith("TASK_COMPLETED")


@pytest.mark.parametrize(
    ("output", "columns"),
    [(Output.CSV, ["nothing"]), (Output.TABLE, ["id", "id"]), (Output.NDJSON, ["id"])],
)
def test_columns_that_are_not_there_are_a_usage_mistake(output: Output, columns: list[str]) -> None:
    with pytest.raises(UsageMistake, match="--columns"):
        make_renderer(output, a_terminal(), columns=columns)
