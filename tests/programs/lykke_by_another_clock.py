"""`lykke` with a wall clock that is wrong by so many seconds.

The first argument is their number, or a file that holds it, which is read at every call.
"""

import datetime
import sys
import time
from datetime import datetime as RightDatetime
from pathlib import Path
from typing import Any

told, *words = sys.argv[1:]
right_time = time.time


def offset() -> float:
    try:
        return float(told)
    except ValueError:
        pass
    try:
        return float(Path(told).read_text() or 0)
    except (OSError, ValueError):
        return 0.0


class WrongDatetime(RightDatetime):
    def __new__(cls, *arguments: Any, **fields: Any) -> Any:
        return RightDatetime(*arguments, **fields)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return RightDatetime.now(tz) + datetime.timedelta(seconds=offset())


datetime.datetime = WrongDatetime  # type: ignore[misc]
time.time = lambda: right_time() + offset()
sys.argv = ["lykke", *words]

from lykke_cli.__main__ import main  # noqa: E402

sys.exit(main())
