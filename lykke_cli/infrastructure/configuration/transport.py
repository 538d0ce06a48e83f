"""How messages travel by Redis: named in its URL, or beside it."""

from enum import StrEnum
from urllib.parse import parse_qsl, urlencode

from lykke_cli.application.errors import UsageMistake

TRANSPORT = "LYKKE_TRANSPORT"


class Transport(StrEnum):
    """Ways for a message from who publishes it to who subscribes."""

    PUBSUB = "pubsub"
    SHARDED = "sharded"
    """Each channel by the shard of a cluster that it is of: SPUBLISH and SSUBSCRIBE."""
    STREAM = "stream"
    """By streams, which keep what was published: XADD and XREAD."""


def with_transport(redis_url: str, transport: str | None, source: str) -> str:
    """The URL as it is with the transport that `source` names; None leaves it to the URL.

    Raises UsageMistake for one that there is not, and where the URL names another.
    """
    if transport is None:
        return redis_url
    if transport not in {*Transport}:
        raise UsageMistake(f"{source}: the transport is one of {', '.join(Transport)}.")
    named = transport_named(redis_url)
    if named in {*Transport} - {transport}:
        raise UsageMistake(
            f"The Redis URL has transport={named}, and {source} says {transport}: "
            "leave one of them out."
        )
    if named is not None or transport == Transport.PUBSUB:
        return redis_url
    return f"{redis_url}{'&' if '?' in redis_url else '?'}transport={transport}"


def transport_named(redis_url: str) -> str | None:
    """What the URL says that it is, if anything; it may be anything."""
    query = redis_url.partition("?")[2]
    return dict(parse_qsl(query, keep_blank_values=True)).get("transport")


def keeps_messages(redis_url: str) -> bool:
    """Whether what is published there is kept, for who reads it later."""
    return transport_named(redis_url) == Transport.STREAM


def without_transport(redis_url: str) -> str:
    """The URL as it is where everything goes by Pub/Sub."""
    if transport_named(redis_url) is None:
        return redis_url
    place, _, query = redis_url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    query = urlencode([each for each in options if each[0] != "transport"])
    return f"{place}?{query}" if query else place
