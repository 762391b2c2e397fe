"""Fixtures that every test may ask for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from app.exchange import Exchange
from app.wire import Wire
from tests.peer import Peer, open_peer
from tests.world import World, open_world

pytest_plugins = ["tests.stores"]


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Log lines as they are in service: one line each, without the locals of a traceback."""
    structlog.configure(processors=[structlog.processors.JSONRenderer()])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db") as world:
        yield world


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with open_peer() as peer:
        yield peer


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with Wire() as wire:
        yield Exchange(wire=wire)
