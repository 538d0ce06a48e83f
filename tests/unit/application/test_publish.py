"""What is told of messages that went out, wherever it ended."""

import uuid
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lykke_cli import MemoryPubSubGateway
from lykke_cli.application.errors import BadInput, ServerUnavailable
from lykke_cli.application.publish import Published, publish_lines

USER = uuid.UUID(int=7)


class Failing(MemoryPubSubGateway):
    """The server goes away with the second message."""

    async def publish_to_user_channel(self, *arguments: Any) -> int:
        if self.published:
            raise ServerUnavailable("gone")
        return await super().publish_to_user_channel(*arguments)


async def given(*lines: bytes) -> AsyncGenerator[bytes]:
    for line in lines:
        yield line


async def test_a_message_whose_answer_did_not_come_may_have_gone_out() -> None:
    published = Published()
    with pytest.raises(ServerUnavailable):
        await publish_lines(Failing(), USER, "auditlog", given(b"{}", b"", b"{}"), published, "-")
    assert published.outcome == "1 went out for sure, and perhaps the one after."


@pytest.mark.parametrize("line", [b"\xff", b"[1]", b"{"])
async def test_a_line_that_is_no_message_is_named(line: bytes) -> None:
    published = Published()
    with pytest.raises(BadInput, match=r"stdin, line 3: .* Only the 1 message before it went out"):
        lines = given(b"{}", b"", line)
        await publish_lines(MemoryPubSubGateway(), USER, "auditlog", lines, published, "stdin")
