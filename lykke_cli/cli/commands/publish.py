"""`lykke publish`: test messages, acknowledgments, and JSON of one's own."""

import re
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from enum import StrEnum
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO
from uuid import UUID, uuid4

import typer

from lykke_cli.application.errors import (
    BadInput,
    ExpectationNotMet,
    ServerUnavailable,
    UsageMistake,
)
from lykke_cli.cli.arguments import options
from lykke_cli.cli.exit_codes import Stopped
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.runs.users import id_of
from lykke_cli.infrastructure.configuration.transport import keeps_messages
from lykke_cli.infrastructure.files import recent

if TYPE_CHECKING:
    from lykke_cli.application.publish import Published
    from lykke_cli.infrastructure.configuration.settings import Settings

LEADING = ("--data", "--count", "--file", "--require-subscribers", "--channel")
EPILOG = options.examples(
    "lykke publish USER_ID",
    """lykke publish USER_ID --count 9 --data '{"n":{n}}'""",
    "lykke publish USER_ID --require-subscribers 1",
)


class Form(StrEnum):
    """The forms in which is told what was published."""

    TEXT = "text"
    JSON = "json"


def publish(
    user: options.UserId,
    stdin: Annotated[
        str | None,
        typer.Argument(metavar="-", help="- reads NDJSON from stdin.", show_default=False),
    ] = None,
    ack: Annotated[
        UUID | None,
        options.reliability_option(
            "--ack",
            metavar="EVENT_ID",
            parser=options.parse_uuid,
            help="An acknowledgment of this entry.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="JSON",
            help="This JSON object; in it {n} is its number, and each {uuid} a new id.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The JSON objects in FILE, one a line; - is stdin.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int,
        options.range_option(
            "--count", min=1, metavar="N", help="So many of them: of --data or the test message."
        ),
    ] = 1,
    rate: Annotated[
        float | None,
        options.range_option("--rate", min=0.001, metavar="N", help="At most N a second."),
    ] = None,
    require_subscribers: Annotated[
        int,
        typer.Option(
            "--require-subscribers",
            min=0,
            metavar="N",
            help="Exit code 4 when fewer than N subscribers got a message.",
            show_default=False,
        ),
    ] = 0,
    channel: options.Channel = options.AUDIT_LOG,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    yes: options.Yes = False,
    output: Annotated[
        Form,
        options.output_option(
            "--output", "-o", metavar="FORM", help="A line to read, or a JSON object."
        ),
    ] = Form.TEXT,
    json_output: Annotated[bool, typer.Option("--json", help="As -o json.", hidden=True)] = False,
    quiet: options.Quiet = False,
) -> None:
    """Publish to a user's channel; without --ack, --data or --file, a test message.

    Prints how many subscribers got it, which the transport stream does not tell.
    """
    if stdin not in (None, "-"):
        raise UsageMistake(f"{stdin!r} is not understood: only - (NDJSON on stdin) may stand here.")
    given = [stdin is not None, ack is not None, data is not None, file is not None]
    if sum(given) > 1:
        raise UsageMistake("Give one of -, --ack, --data and --file.")
    if count > 1 and any([stdin is not None, ack is not None, file is not None]):
        raise UsageMistake("--count goes with --data, or with the test message.")

    needs = ("redis_url",) if user.is_id else ("redis_url", "database_url")
    settings = options.settings(
        redis_url, database_url, profile, transport=transport, needs=needs, quiet=quiet
    )
    is_kept = keeps_messages(settings.redis_url)
    if is_kept and require_subscribers:
        raise UsageMistake(
            "Nobody knows who reads a stream: leave --require-subscribers out, or use the "
            "transport pubsub."
        )
    user_id = id_of(user, settings)
    options.confirm(settings, f"publish to {channel}:{user_id}", yes=yes)

    from lykke_cli.application.messages import acknowledgment, encode, format_time
    from lykke_cli.application.publish import Published
    from lykke_cli.cli.runtime import run_async

    recent.remember([user_id], "publish")
    now = datetime.now(UTC)
    published = Published()
    with ExitStack() as stack:
        source = "stdin"
        lines: Iterable[bytes] | None
        if ack is not None:
            lines = [encode(acknowledgment(str(ack), now))]
        elif data is not None:
            source, lines = "--data", _numbered(data.replace("\n", " "), count)
        elif stdin is not None or file == Path("-"):
            lines = None
        elif file is not None:
            source = str(file)
            lines = stack.enter_context(_opened(file))
        else:
            text = "Hello from lykke publish"
            lines = repeat(
                encode({"type": "test", "message": text, "sent_at": format_time(now)}), count
            )
        try:
            run_async(_publish(settings, user_id, channel, lines, published, source, rate))
        except (Stopped, ServerUnavailable) as error:
            if not quiet and (isinstance(error, Stopped) or published.messages):
                reads = lines is None or file is not None
                what = f"{source} was not read to its end" if reads else "interrupted"
                say(f"{what}: {published.outcome}")
            raise
    fewest = published.fewest or 0
    if not quiet:
        as_json = json_output or output is Form.JSON
        _report(channel, user_id, published, as_json=as_json, is_kept=is_kept)
    if published.messages and fewest < require_subscribers:
        wanted = require_subscribers
        required = "1 subscriber was" if wanted == 1 else f"{wanted} subscribers were"
        raise ExpectationNotMet(f"{required} required, {fewest} got it.")


def _numbered(data: str, count: int) -> Iterator[bytes]:
    """`data` so many times, each with a number and ids of its own."""
    for number in range(1, count + 1):
        own = re.sub(r"\{uuid\}", lambda _: str(uuid4()), data.replace("{n}", str(number)))
        yield own.encode("utf-8", "surrogateescape")


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise BadInput(f"Cannot read {file}: {error.strerror}.") from error


async def _publish(
    settings: "Settings",
    user_id: UUID,
    channel: str,
    lines: Iterable[bytes] | None,
    published: "Published",
    source: str,
    rate: float | None,
) -> None:
    from lykke_cli.application.publish import publish_lines
    from lykke_cli.bootstrap import make_gateway
    from lykke_cli.cli.runs.stdin_lines import stdin_lines

    gateway = make_gateway(settings)
    try:
        waited_for = stdin_lines() if lines is None else _given(lines)
        async with aclosing(waited_for) as each:
            await publish_lines(gateway, user_id, channel, each, published, source, rate)
    finally:
        await gateway.close()


async def _given(lines: Iterable[bytes]) -> AsyncGenerator[bytes]:
    for line in lines:
        yield line


def _report(
    channel: str, user_id: UUID, published: "Published", *, as_json: bool, is_kept: bool
) -> None:
    """Where it `is_kept` in a stream, who has got it is not known."""
    from lykke_cli.application.messages import encode

    fewest = None if is_kept else published.fewest or 0
    name = f"{channel}:{user_id}"
    if as_json:
        result = {"channel": name, "messages": published.messages, "subscribers": fewest}
        options.terminal().write_json(encode(result))
        return
    if fewest is None:
        number = "1 message" if published.messages == 1 else f"{published.messages} messages"
        sys.stdout.write(f"{name}: {number} in its stream\n")
        return
    subscribers = "1 subscriber" if fewest == 1 else f"{fewest} subscribers"
    messages = "" if published.messages == 1 else f"{published.messages} messages, "
    at_least = "" if published.messages <= 1 else "each to at least "
    sys.stdout.write(f"{name}: {messages}{at_least}{subscribers}\n")
