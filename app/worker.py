"""The clock: ask about what is due, forget what has expired, for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from app.service.clock import Clock
from app.service.reconcile import AT_ONCE, Reconcile
from app.storage.store import Store

log = structlog.get_logger()

EVERY_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    clock: Clock
    store: Store
    reconcile: Reconcile

    async def work(self) -> None:
        """Until cancelled; what is cut off then is due again when its claim lapses."""
        async with asyncio.TaskGroup() as chores:
            chores.create_task(forever("reconcile", self._ask))
            chores.create_task(forever("keys.sweep", self._sweep))

    async def _ask(self) -> bool:
        return await self.reconcile.ask_due() == AT_ONCE

    async def _sweep(self) -> bool:
        return await self.store.sweep_keys(self.clock()) > 0


async def forever(chore: str, once: Callable[[], Awaitable[bool]]) -> None:
    """Do it again at once while there is more to do, else after a while; a failure is told and never ends it."""
    while True:
        try:
            wait = 0.0 if await once() else EVERY_SECONDS
        except Exception:
            log.exception("worker.failed", chore=chore)
            wait = AFTER_FAILURE_SECONDS
        await asyncio.sleep(wait)
