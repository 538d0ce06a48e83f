"""How much of a write that was cut off counts as written."""

import json

import pytest

from lykke_cli.application.messages import Arrival, decode
from lykke_cli.cli.output.renderers import make_renderer
from lykke_cli.cli.output.sink import StdoutSink
from lykke_cli.cli.output.standard_streams import OutputClosed
from lykke_cli.cli.output.terminal import Output, Terminal
from tests.builders import entity, wire
from tests.unit.cli.output.test_renderers import Stream


class CutTerminal(Terminal):
    """Takes `limit` more bytes."""

    def __init__(self) -> None:
        super().__init__(Stream(), Stream())
        self.data = b""
        self.limit = 1 << 30
        self._sent = 0

    async def send(self, data: bytes) -> None:
        self._sent = min(len(data), self.limit)
        self.limit -= self._sent
        self.data += data[: self._sent]
        if self._sent < len(data):
            raise OutputClosed

    @property
    def sent(self) -> int:
        return self._sent


def whole(output: Output, data: bytes) -> int:
    """How many messages a reader has, who knows that no more will come."""
    if output is not Output.JSON:
        return data.count(b"\n") - (output is Output.CSV)
    count = 0
    for line in data.removeprefix(b"[").removesuffix(b",").splitlines():
        try:
            count += isinstance(json.loads(line.removesuffix(b",")), dict)
        except ValueError:
            pass
    return count


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("output", [Output.NDJSON, Output.JSON, Output.CSV])
async def test_each_message_that_left_whole_counts(output: Output, before: int) -> None:
    arrivals = [Arrival(decode(wire(entity())), "live", "auditlog:x", b"") for _ in range(3)]
    terminal, size = CutTerminal(), 0
    while True:
        terminal = CutTerminal()
        sink = StdoutSink(terminal, make_renderer(output, terminal))
        await sink.begin()
        for arrival in arrivals[:before]:
            await sink.write([arrival])
        terminal.limit = size
        try:
            await sink.write(arrivals)
        except OutputClosed:
            assert sink.left == whole(output, terminal.data) - before, terminal.data
        else:
            break
        size += 1
    assert size > 100
