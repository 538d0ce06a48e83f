"""Strangers' bytes, through every output and filter: shown, never obeyed, never fatal."""

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.cli.output.live_table import LiveTable
from lykke_cli.cli.output.renderers import (
    CsvRenderer,
    NdjsonRenderer,
    PrettyJsonRenderer,
    RawRenderer,
    Renderer,
)
from lykke_cli.cli.output.template import TemplateRenderer
from tests.hostile import CORPUS, OBEYED
from tests.unit.cli.output.test_renderers import a_terminal

ID = "11111111-1111-4111-8111-11111111111a"
NUMBERS = [
    b"9" * 10_000,
    b"-" + b"9" * 400,
    b"1e999",
    b"-1e999",
    b"-0.0",
    b"1" + b"0" * 4000 + b".5",
]
DEEP = [b"[" * n + b"]" * n for n in (900, 1_100, 100_000)]
DEEP += [b'{"a":' * n + b"1" + b"}" * n for n in (900, 5_000)]
ODD = [b'{"a":1,"a":2}', b"NaN", b"Infinity", b'"\\ud800"', b'{"\\ud800":1}', b"\xff", b"'a'", b""]
ODD += [b'"\\u0000"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b"tru", b'{"a"}', b"[1,]", b"1 2", b'"\n"']
MANY = [
    b"{" + b",".join(b'"%d":1' % n for n in range(50_000)) + b"}",
    b'"' + b"x" * 3_000_000 + b'"',
]
TIMES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59"]
TIMES += [
    "9999-12-31T23:59:59-12:00",
    "9999-12-31T23:59:59.9999999Z",
    "2026-02-30T00:00:00Z",
    "\x1b",
]


def message(meta: bytes = b"{}", **changes: object) -> bytes:
    fields: dict[str, object] = {
        "id": ID,
        "user_id": ID,
        "activity_type": "A",
        "occurred_at": "2026-11-23T08:30:00.123456Z",
        "entity_type": None,
    }
    return json.dumps(fields | changes)[:-1].encode() + b',"meta":' + meta + b"}"


def payloads() -> Iterator[bytes]:
    for text in CORPUS:
        meta = json.dumps({text: text, "t": [text]}, ensure_ascii=False).encode()
        yield message(meta, activity_type=text, entity_type=text)
        yield json.dumps({"type": text, text: text}, ensure_ascii=False).encode()
        yield text.encode()
    for meta in itertools.chain(NUMBERS, DEEP, ODD, MANY):
        yield message(meta)
        yield b'{"type":' + meta + b"}"
        yield meta
    for time in TIMES:
        yield message(occurred_at=time)


PAYLOADS = list(payloads())
TO_TERMINAL: dict[str, Callable[[], Renderer]] = {
    "table": lambda: LiveTable(a_terminal(tty=True, TERM="dumb"), show_user=True),
    "ndjson": lambda: NdjsonRenderer(to_terminal=True),
    "json": lambda: PrettyJsonRenderer(in_color=False),
    "csv": lambda: CsvRenderer(to_terminal=True),
    "raw": lambda: RawRenderer(escaped=True),
    "template": lambda: TemplateRenderer("{activity_type:<10} {meta} {meta.t} {entity_type}"),
}


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) == len(set(CORPUS)) > 200


@pytest.mark.parametrize("output", TO_TERMINAL)
def test_nothing_that_a_terminal_obeys_reaches_it(output: str) -> None:
    renderer = TO_TERMINAL[output]()
    allowed = {"\n", "\t"} if output in ("ndjson", "json", "csv") else {"\n"}
    obeyed = OBEYED - allowed
    for payload in PAYLOADS:
        deliveries = Deliveries([b"auditlog:\x1b[31m"], [payload])
        text = renderer.render(live_arrivals(deliveries)).decode()
        assert obeyed.isdisjoint(text), payload[:300]


@pytest.mark.parametrize("output", ["table", "ndjson", "raw", "template"])
def test_a_message_is_a_line(output: str) -> None:
    renderer = TO_TERMINAL[output]()
    for payload in PAYLOADS:
        rendered = renderer.render(live_arrivals(Deliveries([b"auditlog:x"], [payload])))
        *lines, rest = rendered.split(b"\n")
        days = [line for line in lines if line.startswith(b"--- ")]
        assert (len(lines) - len(days), rest) == (1, b""), payload[:300]


def test_ndjson_stays_json() -> None:
    for payload in PAYLOADS:
        line = NdjsonRenderer().render(live_arrivals(Deliveries([b"auditlog:x"], [payload])))
        assert line.count(b"\n") == 1
        try:
            json.loads(line, parse_int=len)
        except RecursionError:
            pass


@pytest.mark.parametrize(
    "filters",
    [
        Filters(activity_types=("*", "A")),
        Filters(grep=r"\d{3}"),
        Filters(query="meta.a"),
        Filters(query="contains(meta.t, 'x')"),
    ],
)
def test_no_filter_breaks_on_a_message(filters: Filters) -> None:
    for payload in PAYLOADS:
        filters.select(live_arrivals(Deliveries([b"auditlog:x"], [payload])))
