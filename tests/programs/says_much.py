"""On a terminal that takes nothing for now, much is told, and then something is shown.

Once it was told stdin is closed.
"""

import asyncio
import os

from lykke_cli.cli.output import standard_streams
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.terminal import Terminal


async def main() -> None:
    reporter = Reporter(Terminal.of_process(), quiet=False, with_history=False)
    reporter.line("x" * 500_000)
    os.close(0)
    await reporter.block("shown\n")


standard_streams.install()
asyncio.run(main())
