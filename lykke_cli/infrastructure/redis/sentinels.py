"""Where the primary is, as its Sentinels say.

They are several (https://redis.io/docs/latest/develop/reference/sentinel-clients/). One of them may
be cut off from the others and name a primary that is none any more. So all are asked at once, what
most of them say is tried first, and it has to say of itself that it is a primary (ROLE).
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import hiredis

from lykke_cli.application.ending import end
from lykke_cli.infrastructure.configuration.ports import port_of
from lykke_cli.infrastructure.redis.asking import ask
from lykke_cli.infrastructure.redis.connection import Refused, login, refusal
from lykke_cli.infrastructure.redis.urls import Node, RedisAddress, Sentinels, is_host, shown

VOTING_TIME = 0.5  # seconds after the first vote in which the others are waited for
ROLE_TIME = 1.0  # seconds for a server to say what it is


async def find_primary(address: RedisAddress, sentinels: Sentinels) -> Node:
    """Raises OSError and Refused; there is no time-out: it is the caller's."""
    tls = address.tls()  # made once for all of them: it takes a while
    votes = await _votes(address, sentinels, tls)
    refused: ssl.SSLError | None = None
    for node, _ in votes.most_common():
        try:
            if await _is_primary(address, node, tls):
                return node
        except ssl.SSLError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    named = ", ".join(map(shown, votes))
    raise ConnectionError(f"its Sentinels name {named} as primary, which does not answer as one")


async def _votes(
    address: RedisAddress, sentinels: Sentinels, tls: ssl.SSLContext | None
) -> Counter[Node]:
    """Which node how many of them take for the primary."""
    votes, failures = Counter[Node](), list[Exception]()
    majority = len(sentinels.nodes) // 2 + 1
    async with _asked(sentinels, tls) as answers:
        try:
            async with asyncio.timeout(None) as voting:
                async for _, answer in answers:
                    if isinstance(answer, Exception):
                        failures.append(answer)
                        continue
                    votes[answer] += 1
                    if votes[answer] == majority:
                        break
                    if voting.when() is None:
                        voting.reschedule(asyncio.get_running_loop().time() + VOTING_TIME)
        except TimeoutError:
            if not votes:  # it was the caller's
                raise
    if not votes:
        refusals = [error for error in failures if isinstance(error, Refused)]
        raise (refusals or failures)[0]
    return votes


async def opinions(
    address: RedisAddress, sentinels: Sentinels, *, timeout: float
) -> dict[Node, Node | Exception]:
    """Which node each Sentinel takes for the primary, or why it does not say, within `timeout`."""
    said: dict[Node, Node | Exception] = {
        node: TimeoutError("no answer in time") for node in sentinels.nodes
    }
    async with _asked(sentinels, address.tls()) as answers:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                async for sentinel, answer in answers:
                    said |= {sentinel: answer}
    return said


@asynccontextmanager
async def _asked(
    sentinels: Sentinels, tls: ssl.SSLContext | None
) -> AsyncGenerator[AsyncGenerator[tuple[Node, Node | Exception]]]:
    """The answers of the Sentinels, as they come."""
    told: asyncio.Queue[tuple[Node, Node | Exception]] = asyncio.Queue()

    async def ask_one(node: Node) -> None:
        try:
            told.put_nowait((node, await _vote(sentinels, node, tls)))
        except (OSError, Refused) as error:
            told.put_nowait((node, error))

    async def answers() -> AsyncGenerator[tuple[Node, Node | Exception]]:
        for _ in sentinels.nodes:
            yield await told.get()

    tasks = {asyncio.create_task(ask_one(node)) for node in sentinels.nodes}
    try:
        yield answers()
    finally:
        await end(tasks)


async def _vote(sentinels: Sentinels, node: Node, tls: ssl.SSLContext | None) -> Node:
    question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinels.service)
    *_, answer = await ask(*node, [*login(sentinels.options), question], tls=tls)
    if isinstance(answer, hiredis.ReplyError):
        raise refusal(f"{answer} (by the Sentinel {shown(node)})")
    if answer is None:
        raise ConnectionError(
            f"the Sentinel {shown(node)} watches nothing named {sentinels.service}"
        )
    match answer:
        case [bytes(host), bytes(port)]:
            name, number = host.decode("ascii", "replace"), port_of(port.decode("ascii", "replace"))
            if number is not None and is_host(name):
                return name, number
    raise ConnectionError(f"{shown(node)} does not answer as a Sentinel")


async def _is_primary(address: RedisAddress, node: Node, tls: ssl.SSLContext | None) -> bool:
    """False where it is a replica, or does not answer; one that may not be asked counts as one.

    Raises SSLError where its certificate is not accepted.
    """
    try:
        async with asyncio.timeout(ROLE_TIME):
            *_, answer = await ask(*node, [*login(address.options), ("ROLE",)], tls=tls)
    except ssl.SSLError:
        raise
    except (OSError, TimeoutError):
        return False
    return not isinstance(answer, list) or answer[:1] == [b"master"]
