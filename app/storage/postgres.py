"""PostgreSQL: one server for many processes, over a pool of connections."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import asyncpg  # type: ignore[import-untyped]  # it brings no types
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from app.domain.errors import Overloaded
from app.storage.failures import overloaded_when_away, state_of

T = TypeVar("T")

# Connections that are kept, more of them in a rush, tries of one transaction; then seconds.
KEPT, MORE = 8, 2
TRIES = 3
CONNECT_WITHIN = 1.0
GET_WITHIN = 1.0
CARRY_WITHIN = 2.5
ALTER_WITHIN = 60.0
SETTINGS = {
    "application_name": "gatehouse",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "2000",
    "lock_timeout": "1500",
    "idle_in_transaction_session_timeout": "5000",
}
CONFLICTS = ("40001", "40P01")
ALTER_LOCK = 0x6761746568


class Postgres:
    """A server for many processes, at READ COMMITTED; a work that reads needs no transaction around its statements.

    A connection is not asked whether it is alive before it is used, which would cost a round trip every time: one that
    is found dead makes the pool forget all of its age, and the transaction is carried again.
    """

    def __init__(self, address: URL) -> None:
        self._address = address.set(drivername="postgresql").render_as_string(hide_password=False)
        self._pool = create_async_engine(
            "postgresql+asyncpg://",
            hide_parameters=True,
            async_creator=self._connect,
            pool_size=KEPT,
            max_overflow=MORE,
            pool_timeout=GET_WITHIN,
        )
        self._writing = self._pool.sync_engine
        self._reading = self._writing.execution_options(isolation_level="AUTOCOMMIT")
        self._connections: WeakSet[Any] = WeakSet()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._carry(self._reading, work, CARRY_WITHIN)

    async def look(self, work: Callable[[Connection], T]) -> T:
        return await self.read(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        return await self._carry(self._writing, work, CARRY_WITHIN)

    async def alter(self, work: Callable[[Connection], T]) -> T:
        def alone(connection: Connection) -> T:
            connection.exec_driver_sql(
                "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '30000', true)"
            )
            connection.exec_driver_sql(
                f"SELECT pg_advisory_xact_lock({ALTER_LOCK}), set_config('lock_timeout', '2000', true)"
            )
            return work(connection)

        return await self._carry(self._writing, alone, ALTER_WITHIN)

    async def close(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CARRY_WITHIN)
        disposing = asyncio.create_task(self._pool.dispose())
        await asyncio.wait({disposing}, timeout=CONNECT_WITHIN)
        for connection in self._connections:
            connection.terminate()
        await disposing

    async def _connect(self) -> Any:
        connection: Any = await asyncpg.connect(self._address, timeout=CONNECT_WITHIN, server_settings=SETTINGS)
        self._connections.add(connection)
        return connection

    async def _carry(self, pool: Engine, work: Callable[[Connection], T], within: float) -> T:
        voyage = Voyage(pool, work)
        task = asyncio.create_task(greenlet_spawn(voyage.sail))
        timer = asyncio.get_running_loop().call_later(within, voyage.give_up, task)
        self._under_way.add(task)
        task.add_done_callback(lambda done: self._landed(done, timer))
        await asyncio.wait({task}, timeout=within + 0.1)
        if not task.done() or task.cancelled():
            raise Overloaded("The store does not answer.", retry_after=1)
        with overloaded_when_away():
            return task.result()

    def _landed(self, task: "asyncio.Task[Any]", timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that what nobody waits for any more ends quietly


@dataclass(slots=True, eq=False)
class Voyage(Generic[T]):
    """A transaction on its way to the server and back, which can be given up where the driver would wait for ever."""

    pool: Engine
    work: Callable[[Connection], T]
    raw: Any = None
    given_up: bool = False

    def sail(self) -> T:
        for attempt in range(1, TRIES + 1):
            try:
                return self._attempt()
            except DBAPIError as error:
                if attempt == TRIES or self.given_up or not is_worth_another_try(error):
                    raise
        raise AssertionError("the last attempt has returned or raised")

    def give_up(self, task: "asyncio.Task[T]") -> None:
        self.given_up = True
        if self.raw is not None:
            self.raw.terminate()
        else:
            task.cancel()

    def _attempt(self) -> T:
        try:
            with self.pool.connect() as connection:
                self.raw = connection.connection.driver_connection
                result = self.work(connection)
                self._commit(connection)
                return result
        finally:
            self.raw = None

    @staticmethod
    def _commit(connection: Connection) -> None:
        try:
            connection.commit()
        except DBAPIError as error:
            raise Overloaded("The store did not say whether it kept this.", retry_after=1) from error


def is_worth_another_try(error: DBAPIError) -> bool:
    """Nothing was kept: the connection had died in the pool, somebody else was faster, or the schema has changed."""
    outdated = isinstance(getattr(error.orig, "__cause__", None), asyncpg.InvalidCachedStatementError)
    return error.connection_invalidated or outdated or state_of(error) in CONFLICTS
