"""A cluster of three primaries with a replica each, on loopback."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.proxy import Proxy
from tests.servers import RedisServer, free_port, wait_until

SLOTS = 16_384
NODES = 6
NODE_TIMEOUT = 1_000  # milliseconds of silence, after which a node counts as gone


class ClusterNode(RedisServer):
    """It remembers the others over a restart. Clients and other nodes find it behind `front`."""

    def __init__(self, front: Proxy | None = None) -> None:
        self.bus_port = free_port()
        self.front = front
        announced = () if front is None else ("--cluster-announce-port", str(front.port))
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-port", str(self.bus_port), "--cluster-node-timeout", str(NODE_TIMEOUT)),
            *("--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"),
            *announced,
        )

    def start(self) -> None:
        super().start()
        if self.front is not None:
            self.front.lead_to(self.port)

    @property
    def found_at(self) -> int:
        """The port that the cluster names."""
        return self.port if self.front is None else self.front.port

    @property
    def id(self) -> str:
        return self.ask("CLUSTER", "MYID")

    def ask(self, *command: object) -> str:
        """The answer, as text; a node that is frozen is not waited for."""
        at_once = Retry(NoBackoff(), 0)
        with redis.Redis(port=self.port, socket_timeout=2, retry=at_once) as client:
            client.set_response_callback(str(command[0]) + " " + str(command[1]), bytes)
            answer = client.execute_command(*command)
        return bytes(answer).decode()

    def is_joined(self) -> bool:
        return "cluster_state:ok" in self.ask("CLUSTER", "INFO")


class RedisCluster:
    """The whole of it, for the length of a block; each node is behind one of the `fronts`, if any.

    They are six.
    """

    def __init__(self, fronts: Sequence[Proxy] = ()) -> None:
        self._fronts: Sequence[Proxy | None] = fronts or [None] * NODES

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.nodes = [stack.enter_context(ClusterNode(front)) for front in self._fronts]
            self.primaries, self.replicas = self.nodes[:3], self.nodes[3:]
            for number, node in enumerate(self.primaries):
                first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
                node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            for node in self.nodes[1:]:
                self.introduce(node)
            wait_until(lambda: all(map(self._knows_all, self.nodes)), "all know each other")
            for primary, replica in zip(self.primaries, self.replicas, strict=True):
                replica.ask("CLUSTER", "REPLICATE", primary.id)
            wait_until(lambda: all(node.is_joined() for node in self.nodes), "all are joined")
            wait_until(lambda: all(map(self._replicates, self.replicas)), "all replicas follow")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.found_at}" for node in self.nodes)

    def introduce(self, node: ClusterNode) -> None:
        first = self.nodes[0]
        first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)

    def join(self, new: ClusterNode) -> None:
        """Take one more, a primary without slots, and wait until all know it."""
        self.nodes.append(new)
        self.primaries.append(new)
        self.introduce(new)
        wait_until(lambda: all(map(self._knows_all, self.nodes)), "all know the new one")
        wait_until(new.is_joined, "it is joined")

    def followed(self, channel: str) -> ClusterNode | None:
        """The node on which the channel has a subscriber."""
        for node in self.nodes:
            try:
                with node.client() as client:
                    if client.pubsub_numsub(channel)[0][1]:
                        return node
            except (redis.ConnectionError, redis.TimeoutError):
                continue
        return None

    def _knows_all(self, node: ClusterNode) -> bool:
        known = node.ask("CLUSTER", "NODES")
        return len(known.splitlines()) == len(self.nodes) and "handshake" not in known

    def _replicates(self, node: ClusterNode) -> bool:
        with node.client() as client:
            state = client.info("replication")
        return (state["role"], state.get("master_link_status")) == ("slave", "up")
