"""One run of `lykke tail` through a bridge: as any other, but for what it follows."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from lykke_cli.application.gateways.bridge_protocol import PlaceRefused
from lykke_cli.application.remote_tail import RemoteTail
from lykke_cli.bootstrap import make_bridge
from lykke_cli.cli.runs.tail import Tailing
from lykke_cli.infrastructure.configuration.bridge import BridgeSettings


@dataclass(frozen=True, kw_only=True)
class RemoteTailing(Tailing):
    """Its place belongs to the bridge."""

    bridge: BridgeSettings

    async def run(self) -> None:
        """Where the bridge refuses the stored place, --since or -n say where to begin afresh."""
        try:
            await self._run()
        except PlaceRefused as error:
            begins_now = self.request.since is None and self.request.last is None
            if begins_now or not error.at_start:
                raise
            self._reporter.line(f"{error.problem.rstrip('.')}; beginning afresh by --since or -n")
            await self._run(afresh=True)

    async def _run(self, *, afresh: bool = False) -> None:
        bridge = make_bridge(self.bridge)

        async def identify() -> str:
            return f"bridge {bridge.name}"

        async with AsyncExitStack() as stack:
            request, sink, keeper = await self._open_output(stack, identify, afresh=afresh)
            await self._follow(RemoteTail(bridge, request), sink, keeper)
