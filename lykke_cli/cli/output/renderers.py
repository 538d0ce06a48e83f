"""Messages turned into the bytes that are written, one renderer for each `--output`."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Protocol

from lykke_cli.application.batches import as_batch
from lykke_cli.application.csv_rows import CSV_COLUMNS, csv_cell, csv_row, csv_text
from lykke_cli.application.csv_rows import text_of as text_of_message
from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.messages import Arrival, Message
from lykke_cli.cli.output.columns import MAX_MESSAGE_SIZE, check_columns
from lykke_cli.cli.output.fields import fields_of, look_up_of, text_of
from lykke_cli.cli.output.sanitize import json_for_terminal, visible
from lykke_cli.cli.output.terminal import Output, Terminal


class Renderer(Protocol):
    """Turns messages into bytes, in order; `header` first, `footer` once at the end."""

    def header(self) -> bytes: ...

    def render(self, messages: Sequence[Arrival]) -> bytes: ...

    def footer(self) -> bytes: ...


def make_renderer(
    output: Output | None,
    terminal: Terminal,
    *,
    zone: tzinfo | None = UTC,
    relative: bool = False,
    show_user: bool = False,
    emails: Mapping[str, str] | None = None,
    wrap: bool = False,
    grep: str | None = None,
    unsafe: bool = False,
    columns: Sequence[str] | None = None,
    template: str | None = None,
    max_message_size: int = MAX_MESSAGE_SIZE,
    any_message: bool = False,
) -> Renderer:
    """The renderer for `output`, or without it a table on a terminal and NDJSON in a pipe.

    `zone`, `relative`, `show_user`, `emails`, `wrap` and `grep` are for the table: the zone of its
    times (None: this machine's), ages in their place, a column for the user and what stands there
    in place of ids, whole details, and a regular expression that is marked. With `unsafe` raw
    payloads reach a terminal as they are. `columns` are those of a table or of CSV, in order; a
    `template` takes the place of `output`. What has more than `max_message_size` bytes is cut in
    the table. With `any_message`, for channels of other types than the audit log's, columns and
    fields are those of whatever JSON object comes.
    Raises UsageMistake.
    """
    if template is not None:
        if output is not None or columns is not None:
            raise UsageMistake("--template is an output of its own: leave -o and --columns out.")
        from lykke_cli.cli.output.template import TemplateRenderer

        return TemplateRenderer(template, any_message=any_message)
    to_terminal = terminal.stdout_is_tty
    chosen = output or (Output.TABLE if to_terminal else Output.NDJSON)
    if columns is not None and chosen not in (Output.TABLE, Output.CSV):
        raise UsageMistake("--columns goes with -o table and -o csv.")
    match chosen:
        case Output.TABLE:
            from lykke_cli.cli.output.live_table import LiveTable

            return LiveTable(
                terminal,
                zone=zone,
                relative=relative,
                show_user=show_user,
                emails=emails,
                wrap=wrap,
                sought=None if grep is None else re.compile(grep),
                columns=columns,
                max_message_size=max_message_size,
                any_message=any_message,
            )
        case Output.NDJSON:
            return NdjsonRenderer(to_terminal=to_terminal)
        case Output.JSON:
            in_color = terminal.stdout_in_color
            return PrettyJsonRenderer(in_color=in_color) if to_terminal else JsonRenderer()
        case Output.CSV:
            return CsvRenderer(columns, to_terminal=to_terminal, any_message=any_message)
        case Output.RAW:
            return RawRenderer(escaped=to_terminal and not unsafe)


class NdjsonRenderer:
    """One JSON object per line, whatever came."""

    def __init__(self, *, to_terminal: bool = False) -> None:
        self._to_terminal = to_terminal

    def header(self) -> bytes:
        return b""

    def render(self, messages: Sequence[Arrival]) -> bytes:
        data = as_batch(messages).lines()
        return json_for_terminal(data) if self._to_terminal else data

    def footer(self) -> bytes:
        return b""


class JsonRenderer:
    """One JSON array, written as the messages come, an element per line."""

    def __init__(self) -> None:
        self._empty = True

    def header(self) -> bytes:
        return b"["

    def render(self, messages: Sequence[Arrival]) -> bytes:
        if not messages:
            return b""
        start = b"\n" if self._empty else b",\n"
        self._empty = False
        return start + self._elements(as_batch(messages).lines()[:-1])

    def footer(self) -> bytes:
        return b"]\n" if self._empty else b"\n]\n"

    def _elements(self, lines: bytes) -> bytes:
        return lines.replace(b"\n", b",\n")


class PrettyJsonRenderer(JsonRenderer):
    """The same for people: harmless, each element indented."""

    def __init__(self, *, in_color: bool) -> None:
        super().__init__()
        self._in_color = in_color

    def _elements(self, lines: bytes) -> bytes:
        from lykke_cli.cli.output.json_text import array_of

        return array_of(lines.split(b"\n"), in_color=self._in_color)


class CsvRenderer:
    """RFC 4180 with a header row; what is not an entry has its text in the column `meta`.

    JSON's null is an empty cell. A cell that a spreadsheet would take for a formula gets a `'`.
    With `any_message` a column may be any key of a JSON object, such as `event_data.title`; where
    an object has no `meta`, all of it is in that column.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        to_terminal: bool = False,
        any_message: bool = False,
    ) -> None:
        self._to_terminal = to_terminal
        self._any_message = any_message
        self._columns = check_columns(columns or CSV_COLUMNS, CSV_COLUMNS, any_key=any_message)
        self._look_ups = [look_up_of(name) for name in self._columns]

    def header(self) -> bytes:
        return self._rows([self._columns])

    def render(self, messages: Sequence[Arrival]) -> bytes:
        return self._rows([self._row(shown.message) for shown in messages])

    def footer(self) -> bytes:
        return b""

    def _row(self, message: Message) -> Sequence[str]:
        if not self._any_message:
            row = dict(zip(CSV_COLUMNS, csv_row(message), strict=True))
            return [row[name] for name in self._columns]
        fields = fields_of(message)
        if "meta" not in fields:
            fields["meta"] = text_of_message(message)
        return [csv_cell(text_of(look_up(fields))) for look_up in self._look_ups]

    def _rows(self, rows: Sequence[Sequence[str]]) -> bytes:
        if self._to_terminal:
            rows = [[visible(cell) for cell in row] for row in rows]
        return csv_text(rows)


class RawRenderer:
    """Payloads as they came, each followed by a newline."""

    def __init__(self, *, escaped: bool = False) -> None:
        self._escaped = escaped

    def header(self) -> bytes:
        return b""

    def render(self, messages: Sequence[Arrival]) -> bytes:
        payloads = as_batch(messages).payloads()
        if self._escaped:
            payloads = [visible(p.decode("utf-8", "backslashreplace")).encode() for p in payloads]
        payloads.append(b"")
        return b"\n".join(payloads)

    def footer(self) -> bytes:
        return b""
