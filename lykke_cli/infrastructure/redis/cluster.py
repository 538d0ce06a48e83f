"""A node of a cluster by which to publish and subscribe.

Any will do: the nodes pass on to each other what is published, whatever its channel
(https://redis.io/docs/latest/commands/publish/), as long as they are joined. One that was cut off
from most of the others says so after a while; it answers, and passes nothing on.
"""

import asyncio
import random
import ssl
from binascii import crc_hqx
from collections.abc import Iterable
from contextlib import suppress

import hiredis
import msgspec

from lykke_cli.application.ending import end
from lykke_cli.infrastructure.configuration.ports import port_of
from lykke_cli.infrastructure.redis.asking import ask
from lykke_cli.infrastructure.redis.connection import Refused, login, refusal
from lykke_cli.infrastructure.redis.urls import Cluster, Node, RedisAddress, is_host, shown

SLOTS = 16_384
ASKED_AT_ONCE = 8  # nodes
MOST_NODES = 1_000  # that are remembered
_AWAY = {"fail", "noaddr", "handshake"}


class NotJoined(ConnectionError):
    """The node is there, and cut off from most of the others."""


class Member(msgspec.Struct, frozen=True):
    """A node, as another one knows it."""

    node: Node
    is_primary: bool
    is_away: bool


async def find_joined(address: RedisAddress, cluster: Cluster) -> Node:
    """The first of some nodes to say that it is joined with the others.

    Those it knows are remembered. Raises OSError and Refused; there is no time-out: it is the
    caller's.
    """
    return await _find_joined(address, cluster, address.tls())


async def _find_joined(address: RedisAddress, cluster: Cluster, tls: ssl.SSLContext | None) -> Node:
    nodes = random.sample(cluster.nodes, len(cluster.nodes))
    failures = list[Exception]()
    for start in range(0, len(nodes), ASKED_AT_ONCE):
        some = nodes[start : start + ASKED_AT_ONCE]
        tasks = {asyncio.create_task(_look(address, node, tls)) for node in some}
        try:
            for asked in asyncio.as_completed(tasks):
                try:
                    node, known = await asked
                except (OSError, Refused) as error:
                    failures.append(error)
                    continue
                remembered = dict.fromkeys([*cluster.nodes, *(one.node for one in known)])
                cluster.nodes = [*remembered][:MOST_NODES]
                return node
        finally:
            await end(tasks)
            for task in tasks:  # what the others failed for is of no interest
                task.cancelled() or task.exception()
    refusals = [error for error in failures if isinstance(error, Refused)]
    raise (refusals or failures)[0]


class Slots:
    """Which node has which of a cluster's slots; a channel's slot follows from its name.

    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
    """

    def __init__(self, ranges: Iterable[tuple[int, int, Node]]) -> None:
        self._owners: dict[int, Node] = {}
        for first, last, node in ranges:
            self._owners.update(dict.fromkeys(range(first, last + 1), node))

    def owner(self, slot: int) -> Node:
        """Raises OSError where no node has it."""
        if slot not in self._owners:
            raise ConnectionError(f"no node of the cluster has the slot {slot}")
        return self._owners[slot]


def slot_of(channel: bytes) -> int:
    _, _, rest = channel.partition(b"{")
    tag, closing, _ = rest.partition(b"}")
    return crc_hqx(tag if tag and closing else channel, 0) % SLOTS


async def find_slots(address: RedisAddress, cluster: Cluster) -> Slots:
    """As a node sees it that is joined with the others; raises as `find_joined` does."""
    tls = address.tls()  # made once for all of them: it takes a while
    node = await _find_joined(address, cluster, tls)
    *_, answer = await ask(*node, [*login(address.options), ("CLUSTER", "SLOTS")], tls=tls)
    if isinstance(answer, hiredis.ReplyError):
        raise refusal(f"{answer} (by {shown(node)})")
    found = []
    for each in answer if isinstance(answer, list) else ():
        match each:
            case [int(first), int(last), [host, int(port), *_], *_] if 0 <= first <= last < SLOTS:
                name = host.decode("utf-8", "replace") if isinstance(host, bytes) else ""
                if is_host(name or node[0]) and port_of(str(port)):
                    found.append((first, last, (name or node[0], port)))
    return Slots(found)


async def check_is_joined(address: RedisAddress, node: Node) -> None:
    """Raises OSError where it is not, and Refused."""
    await _look(address, node, address.tls())


async def members(address: RedisAddress, node: Node) -> list[Member]:
    """All nodes that this one knows; raises as `check_is_joined` does."""
    return (await _look(address, node, address.tls()))[1]


async def _look(
    address: RedisAddress, node: Node, tls: ssl.SSLContext | None
) -> tuple[Node, list[Member]]:
    questions = [*login(address.options), ("CLUSTER", "INFO"), ("CLUSTER", "NODES")]
    *_, info, nodes = await ask(*node, questions, tls=tls)
    if isinstance(info, hiredis.ReplyError):
        if str(info).startswith("NOPERM"):
            return node, []  # it cannot be known
        raise refusal(f"{info} (by {shown(node)})")
    if not isinstance(info, bytes) or b"cluster_state:ok" not in info:
        raise NotJoined(f"{shown(node)} is not joined with most of the cluster")
    return node, _members(nodes, node) if isinstance(nodes, bytes) else []


def _members(text: bytes, asked: Node) -> list[Member]:
    """The lines of CLUSTER NODES, which are untrusted, as far as they make sense.

    https://redis.io/docs/latest/commands/cluster-nodes/
    """
    found = []
    for line in text.decode("utf-8", "replace").splitlines():
        with suppress(ValueError):
            _, place, flags, *_ = line.split()
            host, _, port = place.partition("@")[0].rpartition(":")
            number, kinds = port_of(port), set(flags.split(","))
            host = host or asked[0]  # a node that does not know yet how it is called
            if number is not None and is_host(host):
                is_away = bool(kinds & _AWAY)
                found.append(Member((host, number), "master" in kinds, is_away))
    return found
