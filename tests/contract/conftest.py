"""What an application runs in its own process is tested on the event loops that they use."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module

import pytest

EMBEDDED = ("test_pubsub_contract.py", "test_unit_of_work_contract.py")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """uvloop is what `uvicorn[standard]` runs on."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in EMBEDDED:
        factories["uvloop"] = import_module("uvloop").new_event_loop
    return factories
