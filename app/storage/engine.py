"""An engine: what carries a transaction to the database and back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from app.storage.failures import StoreInUse, StoreUnusable
from app.storage.postgres import Postgres
from app.storage.sqlite import Sqlite

__all__ = ["Engine", "StoreInUse", "StoreUnusable", "open_engine"]

T = TypeVar("T")


class Engine(Protocol):
    """Carries a work, which is one whole transaction, over a connection.

    Nothing is answered before it is committed, and a work that raises is undone. It may be tried more than once, and it
    goes on when its caller is cancelled. Overloaded: the store is away, full, frozen, locked or has too much to do.
    """

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Carry a work that writes nothing."""
        ...

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Carry a work that finds a row by its key, and does nothing else, so that it needs no transaction."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T: ...

    async def alter(self, work: Callable[[Connection], T]) -> T:
        """Carry a change of the schema: patiently, and one at a time over all processes."""
        ...

    async def close(self) -> None: ...


@asynccontextmanager
async def open_engine(url: str) -> AsyncIterator[Engine]:
    """Of `sqlite:///./gatehouse.db` or `postgresql://…`, whose server need not be up yet. StoreUnusable, StoreInUse."""
    engine = engine_for(url)
    try:
        yield engine
    finally:
        await engine.close()


def engine_for(url: str) -> Engine:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreUnusable("The address of the database cannot be read.") from None
    match address.get_backend_name():
        case "sqlite":
            return Sqlite(file_of(address))
        case "postgresql" | "postgres":
            return Postgres(address)
        case other:
            raise StoreUnusable(f"{other} is not supported; use sqlite or postgresql.")


def file_of(address: URL) -> Path:
    name = address.database or ""
    if name in {"", ":memory:"} or name.startswith("file:"):
        raise StoreUnusable("SQLite needs a file, as in sqlite:///./gatehouse.db: memory would lose every invoice.")
    return Path(name).resolve()
