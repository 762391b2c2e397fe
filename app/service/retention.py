"""Forget how invoices were dealt with, after as long as the operator wants to be able to look at it."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from app.service.clock import Clock
from app.storage.retention import FORGOTTEN_AT_ONCE, Purge

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    purge: Purge
    clock: Clock
    kept_for: timedelta

    async def forget(self) -> bool:
        """Some of what is older; whether there may be more of it."""
        counts = await self.purge.forget(self.clock() - self.kept_for)
        if any(counts):
            log.info("retention.forgot", count=sum(counts))
        return max(counts) == FORGOTTEN_AT_ONCE
