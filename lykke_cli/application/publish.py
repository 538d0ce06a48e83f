"""Publishing messages to a user's channel."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from lykke_cli.application.errors import BadInput
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.messages import parse_object


@dataclass(slots=True)
class Published:
    """What became of some messages."""

    messages: int = 0
    fewest: int | None = None
    """The smallest number of subscribers that got one of them."""

    def add(self, subscribers: int) -> None:
        self.messages += 1
        self.fewest = subscribers if self.fewest is None else min(self.fewest, subscribers)


async def publish_lines(
    gateway: PubSubGatewayProtocol,
    user_id: UUID,
    channel_type: str,
    lines: Iterable[bytes],
    published: Published,
    source: str,
) -> None:
    """Publish each line, a JSON object; empty ones are passed over.

    `published` is kept up to date, so that it is true whatever happens. Raises BadInput, naming
    the line of `source`, and ServerUnavailable.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            message = parse_object(line.strip())
        except BadInput as error:
            sent = published.messages
            before = "the 1 message" if sent == 1 else f"the {sent} messages"
            outcome = f"Only {before} before it went out." if sent else "Nothing was published."
            raise BadInput(f"{source}, line {number}: {error}. {outcome}") from error
        published.add(await gateway.publish_to_user_channel(user_id, channel_type, message))
