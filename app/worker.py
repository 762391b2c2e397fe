"""The clock: ask about what is due, see to what we were told, tell what happened, forget what has expired."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from app.domain.errors import PaymentError
from app.service import reconcile
from app.service.services import Services
from app.service.watch import FEED

log = structlog.get_logger()

EVERY_SECONDS = 1.0
FORGET_EVERY_SECONDS = 60.0
AFTER_FAILURE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Worker:
    services: Services

    async def work(self) -> None:
        """Until cancelled; what is cut off then is due again when its claim lapses."""
        retention, watch = self.services.retention, self.services.watch
        async with asyncio.TaskGroup() as chores:
            chores.create_task(forever("reconcile", self._ask, asyncio.sleep))
            chores.create_task(forever("notifications", self._see_to, asyncio.sleep))
            chores.create_task(forever("keys.sweep", self._sweep, asyncio.sleep))
            chores.create_task(forever("retention", retention.forget, asyncio.sleep, FORGET_EVERY_SECONDS))
            with watch.over(FEED) as bell:
                await forever("deliveries", self._deliver, bell.wait)

    async def _ask(self) -> bool:
        return await self.services.reconcile.ask_due() == reconcile.AT_ONCE

    async def _see_to(self) -> bool:
        return await self.services.notifications.see_to_due() > 0

    async def _deliver(self) -> None:
        await self.services.deliveries.deliver_due()

    async def _sweep(self) -> bool:
        return await self.services.store.sweep_keys(self.services.clock()) > 0


async def forever(
    chore: str,
    once: Callable[[], Awaitable[bool | None]],
    pause: Callable[[float], Awaitable[None]],
    every: float = EVERY_SECONDS,
) -> None:
    """Do it again at once while there is more to do, else after a while; a failure is told and never ends it."""
    while True:
        try:
            wait = 0.0 if await once() else every
        except PaymentError as error:
            log.warning("worker.put_off", chore=chore, code=error.code)
            wait = every
        except Exception:
            log.exception("worker.failed", chore=chore)
            wait = AFTER_FAILURE_SECONDS
        await pause(wait)
