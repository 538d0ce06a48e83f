"""A dependency as it may be one day: what it keeps to itself is called otherwise."""

from types import ModuleType
from typing import Any

import pytest


def hide(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[str]:
    """Let `getattr` in `module` find nothing; returns the names that are asked for."""
    asked: list[str] = []

    def without_any(_: object, name: str, default: Any) -> Any:
        asked.append(name)
        return default

    monkeypatch.setattr(module, "getattr", without_any, raising=False)
    return asked
