"""A hub runs in an application's own process: it is tested on the event loops that they use."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module

import pytest

THOROUGH = "test_readers_that_come_and_go"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.name.startswith(THOROUGH):
        factories["uvloop"] = import_module("uvloop").new_event_loop
    return factories
