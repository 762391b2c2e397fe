"""SQLite: one file for one process, whose transactions share their commits."""

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from app.domain.errors import Overloaded
from app.storage.failures import StoreInUse, StoreUnusable, overloaded_when_away

T = TypeVar("T")

# Threads that read, works that share a commit, works that may wait for theirs.
READERS = 4
MOST_TOGETHER = 64
MOST_WAITING = 1000
GLANCE = 20  # milliseconds that the loop waits for a file that somebody has locked
PRAGMAS = ("busy_timeout=1000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """A work that waits for its commit, and what became of it."""

    work: Callable[[Connection], T]
    answer: "asyncio.Future[T]"
    result: T | None = None
    error: BaseException | None = None

    def deliver(self, failure: BaseException | None) -> None:
        if self.answer.done():
            return
        if error := failure or self.error:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(self.result)  # type: ignore[arg-type]  # the work has run


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What goes wrong in it is undone and is its job's affair, unless SQLite gave up the whole transaction."""

    raw: sqlite3.Connection
    job: Job[Any]

    def __enter__(self) -> None:
        self.raw.execute("SAVEPOINT job")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not self.raw.in_transaction:
            return False
        if error is not None:
            self.raw.execute("ROLLBACK TO job")
        self.raw.execute("RELEASE job")
        self.job.error = error
        return True


class Sqlite:
    """One file for one process: a thread that writes, and some that read the last commit and wait for nobody.

    Works that wait at the same time share a commit, and so one sync of the disk; each is in a savepoint of its own.
    """

    def __init__(self, path: Path) -> None:
        self._lock = lock_beside(path)
        address = URL.create("sqlite", database=str(path))
        self._writing = create_engine(address, hide_parameters=True, pool_size=1, max_overflow=0)
        self._reading = create_engine(address, hide_parameters=True, pool_size=READERS, max_overflow=0)
        prepare(self._writing, PRAGMAS, begin="BEGIN IMMEDIATE")
        prepare(self._reading, (*PRAGMAS, "query_only=ON"), begin="BEGIN")
        self._looking = create_engine(
            address, hide_parameters=True, poolclass=StaticPool, pool_reset_on_return=None, isolation_level="AUTOCOMMIT"
        )
        prepare(self._looking, (*PRAGMAS, "query_only=ON", f"busy_timeout={GLANCE}"))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._waiting: list[Job[Any]] = []
        self._committing: asyncio.Task[None] | None = None
        self._prove()

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._in(self._readers, self._read, work)

    async def look(self, work: Callable[[Connection], T]) -> T:
        """On the loop, outside of any transaction: the row is found sooner than a thread hears that it is wanted."""
        with overloaded_when_away(), self._looking.connect() as connection:
            return work(connection)

    async def write(self, work: Callable[[Connection], T]) -> T:
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded("Too much waits for the store.", retry_after=1)
        job: Job[T] = Job(work, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        with overloaded_when_away():
            return await job.answer

    async def alter(self, work: Callable[[Connection], T]) -> T:
        return await self._in(self._writer, self._alter, work)

    async def close(self) -> None:
        if self._committing is not None:
            await self._committing
        await asyncio.to_thread(self._let_go)

    async def _commit_all(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            commit = asyncio.get_running_loop().run_in_executor(self._writer, self._commit, together)
            await asyncio.wait({commit})
            for job in together:
                job.deliver(commit.exception())
        self._committing = None

    async def _in(self, threads: Executor, carry: Callable[..., T], work: Callable[[Connection], T]) -> T:
        with overloaded_when_away():
            return await asyncio.get_running_loop().run_in_executor(threads, carry, work)

    def _commit(self, together: list[Job[Any]]) -> None:
        with self._writing.begin() as connection:
            raw = driver_of(connection)
            for job in together:
                with Savepoint(raw, job):
                    job.result = job.work(connection)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            return work(connection)

    def _alter(self, work: Callable[[Connection], T]) -> T:
        """Without foreign keys, or a table that is made anew would take the rows that refer to it along."""
        with self._writing.connect() as connection:
            driver_of(connection).execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    return work(connection)
            finally:
                connection.invalidate()

    def _prove(self) -> None:
        try:
            self._writing.connect().close()
            self._looking.connect().close()
        except DBAPIError as error:
            self._let_go()
            raise StoreUnusable(f"The SQLite file cannot be used: {error.orig}.") from error

    def _let_go(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._looking.dispose()
        self._reading.dispose()
        self._writing.dispose()
        self._lock.close()


def lock_beside(path: Path) -> IO[str]:
    """Hold the file `<path>.lock` until it is closed."""
    with ExitStack() as unless_it_is_held:
        try:
            file = unless_it_is_held.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            reason = "Another process uses this SQLite file, which serves one; PostgreSQL serves many."
            raise StoreInUse(reason) from error
        except OSError as error:
            raise StoreUnusable(f"The SQLite file cannot be used: {error.strerror}.") from error
        unless_it_is_held.pop_all()
        return file


def prepare(pool: Engine, pragmas: tuple[str, ...], begin: str | None = None) -> None:
    """Have SQLite begin as it is told, or never: by itself the driver would begin only when it sees a write."""

    def connected(raw: sqlite3.Connection, _: object) -> None:
        raw.isolation_level = None
        for pragma in pragmas:
            raw.execute(f"PRAGMA {pragma}")

    listen(pool, "connect", connected)
    if begin:
        listen(pool, "begin", lambda connection: connection.exec_driver_sql(begin))


def driver_of(connection: Connection) -> sqlite3.Connection:
    raw: Any = connection.connection.driver_connection
    return cast("sqlite3.Connection", raw)
