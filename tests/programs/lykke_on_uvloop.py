"""`lykke` on uvloop."""

import asyncio
import sys

import uvloop

asyncio.run = uvloop.run

from lykke_cli.__main__ import main  # noqa: E402

if __name__ == "__main__":  # and not in a worker, which imports this too
    sys.exit(main())
