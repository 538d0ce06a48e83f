"""Publishing messages to a user's channel."""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from uuid import UUID

from lykke_cli.application.errors import BadInput
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.messages import parse_object
from lykke_cli.application.pace import Pace


@dataclass(slots=True)
class Published:
    """What became of some messages."""

    messages: int = 0
    fewest: int | None = None
    """The smallest number of subscribers that got one of them."""

    in_doubt: bool = False
    """Whether one more was handed to the server, whose answer has not come."""

    def add(self, subscribers: int) -> None:
        self.in_doubt = False
        self.messages += 1
        self.fewest = subscribers if self.fewest is None else min(self.fewest, subscribers)

    @property
    def outcome(self) -> str:
        """Say in a sentence what went out before the end."""
        if self.in_doubt:
            return f"{self.messages} went out for sure, and perhaps the one after."
        if not self.messages:
            return "Nothing was published."
        before = "the 1 message" if self.messages == 1 else f"the {self.messages} messages"
        return f"Only {before} before it went out."


async def publish_lines(
    gateway: PubSubGatewayProtocol,
    user_id: UUID,
    channel_type: str,
    lines: AsyncIterable[bytes],
    published: Published,
    source: str,
    rate: float | None = None,
) -> None:
    """Publish each line, a JSON object, at most `rate` a second; empty ones are passed over.

    `published` is kept up to date, so that it is true whatever happens. Raises BadInput, naming
    the line of `source`, and ServerUnavailable.
    """
    number = 0
    pace = Pace(rate)
    async for line in lines:
        number += 1
        if not line.strip():
            continue
        try:
            message = parse_object(line.strip())
        except BadInput as error:
            raise BadInput(f"{source}, line {number}: {error}. {published.outcome}") from error
        await pace.wait()
        published.in_doubt = True
        published.add(await gateway.publish_to_user_channel(user_id, channel_type, message))
