"""What can be wrong with a store, and which of it a caller is told to wait for."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from app.domain.errors import Overloaded

# The store is locked, out of memory, read-only, failing, corrupt, full or gone. Every other code is a mistake of ours.
SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
# Likewise: connection, sign-in, standby, no database, conflict, resources, lock, operator, system, corruption.
POSTGRES_AWAY = ("08", "28", "25006", "3D000", "40", "53", "55P03", "57", "58", "XX001", "XX002")


class StoreUnusable(Exception):
    """The store cannot be used as it is configured; the message says why, and never shows the address."""


class StoreInUse(StoreUnusable):
    """Another process has the SQLite file."""


@contextmanager
def overloaded_when_away() -> Iterator[None]:
    try:
        yield
    except (PoolExhausted, OSError) as error:
        raise Overloaded("The store cannot be reached.", retry_after=1) from error
    except (DBAPIError, sqlite3.Error) as error:
        if not is_away(error):
            raise
        raise Overloaded("The store cannot do this now.", retry_after=1) from error


def is_away(error: DBAPIError | sqlite3.Error) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in SQLITE_AWAY
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or (state_of(error) or "").startswith(POSTGRES_AWAY)


def state_of(error: Exception) -> str | None:
    """PostgreSQL's code for what went wrong."""
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state
