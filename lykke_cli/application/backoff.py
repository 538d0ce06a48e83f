"""How long to wait before the next attempt."""

import random

BASE = 0.1  # seconds
CAP = 5.0  # seconds


class Backoff:
    """Waits that double from `base` up to `cap` seconds, each with full jitter in its upper half.

    The jitter keeps clients that were cut off together from coming back together.
    """

    def __init__(
        self, *, base: float = BASE, cap: float = CAP, rng: random.Random | None = None
    ) -> None:
        self._base = base
        self._cap = cap
        self._rng = rng or random.Random()
        self._attempts = 0

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        bound = min(self._cap, self._base * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return float(self._rng.uniform(bound / 2, bound))

    def reset(self) -> None:
        """Start again with the shortest wait, after an attempt that succeeded."""
        self._attempts = 0
