"""When an invoice that nobody tells us about is asked about again."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.invoice import UNPAID_ENDS, Invoice, Status
from app.provider import Provider

LATE_LOOKS = (timedelta(hours=1), timedelta(hours=24), timedelta(hours=72))


def jitter() -> float:
    return random.uniform(0.9, 1.1)  # noqa: S311  # spreads the load, no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`waits` are the seconds between two asks of an unfinished invoice; the last of them repeats."""

    waits: Sequence[float]
    jitter: Callable[[], float] = jitter

    def first(self, at: datetime, patience: timedelta) -> datetime:
        """When to look after a create, which has `patience` to be answered."""
        return at + max(patience, timedelta(seconds=self.waits[0] * self.jitter()))

    def next(self, provider: Provider, invoice: Invoice, at: datetime) -> datetime | None:
        """None: never, unless somebody reads it."""
        if invoice.adopted:
            return None
        if provider.unsettled(invoice):
            return at + timedelta(seconds=self.waits[min(invoice.asks, len(self.waits) - 1)] * self.jitter())
        return min((due for due in late_looks(provider, invoice) if due > at), default=None)

    def last(self, at: datetime) -> datetime:
        return at + timedelta(seconds=self.waits[-1])

    def due(self, provider: Provider, invoice: Invoice, at: datetime) -> bool:
        """Whether one whose turn has come is still worth asking about: it may have ended since that was planned."""
        if provider.unsettled(invoice):
            return True
        asked = invoice.synced_at or invoice.updated_at
        return any(asked < due <= at for due in late_looks(provider, invoice))


def late_looks(provider: Provider, invoice: Invoice) -> list[datetime]:
    """Money may come late, and may go back: when a finished invoice is looked at again."""
    ended = invoice.completed_at or invoice.updated_at
    if invoice.status in UNPAID_ENDS:
        return [ended + wait for wait in LATE_LOOKS]
    return [ended + wait for wait in provider.refund_looks] if invoice.status is Status.COMPLETED else []
