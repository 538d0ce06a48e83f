"""How entries lie in Redis: a few streams for each channel type, among which the users are spread.

A stream for each user would cost a server about 5 KB for every user who ever did anything. The
number in braces is a hash tag: it spreads the streams over a cluster, and keeps what belongs to
one stream in the same slot (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
"""

from collections.abc import Iterator
from uuid import UUID
from zlib import crc32

from lykke_cli.application.errors import BadInput, UsageMistake

PARTITIONS = 16
MOST_PARTITIONS = 256
KEEP = 1_000_000  # entries of a stream, about, that are not yet trimmed
USER = b"u"
"""The field of an entry that holds the user's id, as text."""
MESSAGE = b"e"
"""The field that holds the message: what Pub/Sub would carry on the user's channel."""


def stream_name(channel_type: str, partition: int) -> str:
    return f"{channel_type}:{{{partition:02d}}}"


def stream_names(channel_type: str, partitions: int) -> Iterator[str]:
    return (stream_name(channel_type, partition) for partition in range(partitions))


def place_name(channel_type: str, partition: int) -> str:
    """The key of how far the relay has come with this partition, written together with it."""
    return f"{stream_name(channel_type, partition)}:place"


def partitions_name(channel_type: str) -> str:
    """The key of how many partitions there are: whoever comes first writes it (SET NX)."""
    return f"{channel_type}:partitions"


def partition_of(user_id: UUID, partitions: int) -> int:
    return crc32(user_id.bytes) % partitions


def agreed_partitions(channel_type: str, stored: bytes, asked: int | None = None) -> int:
    """How many there are, from what is `stored`.

    Raises BadInput where that is no such number, and UsageMistake where another was `asked` for.
    """
    text = stored.decode("ascii", "replace")
    key = partitions_name(channel_type)
    if not (text.isdigit() and 1 <= int(text) <= MOST_PARTITIONS):
        raise BadInput(
            f"The key {key} in Redis holds {text[:20]!r}, which is no number of partitions from 1 "
            f"to {MOST_PARTITIONS}."
        )
    if asked is not None and asked != int(text):
        raise UsageMistake(
            f"The streams of {channel_type} have {text} partitions, not {asked}: leave "
            f"--partitions out, or delete the streams and the key {key} first."
        )
    return int(text)


def dead_letter_name(stream: str) -> str:
    """The stream of what a group has given up, in the same slot."""
    return f"{stream}:dead"
