"""A call that waits for somebody else steps aside meanwhile, and another may work in its place."""

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

# The place of the call that something is done for, entered for as long as it waits.
SEAT: ContextVar[AbstractContextManager[None]] = ContextVar("seat")
NOBODYS = nullcontext()


def aside() -> AbstractContextManager[None]:
    return SEAT.get(NOBODYS)
