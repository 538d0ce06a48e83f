"""`lykke` on uvloop."""

import asyncio
import sys

import uvloop

asyncio.run = uvloop.run

from lykke_cli.__main__ import main  # noqa: E402

sys.exit(main())
