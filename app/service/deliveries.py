"""Tell merchants: each event to its receiver, signed, in order per invoice, until it is taken or we give up."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter
from typing import Any

import httpx
import structlog
from pydantic import SecretStr
from standardwebhooks import Webhook

from app.domain.delivery import Attempt, Backlog, Delivery, State
from app.domain.errors import NotFound, PaymentError
from app.domain.invoice import Event
from app.exchange import seconds_of
from app.service.clock import Clock
from app.service.flights import Flights
from app.service.schedule import jitter
from app.service.views import event_body
from app.storage.outbox import Outbox

log = structlog.get_logger()

# Deliveries to one receiver at the same time.
AT_ONE_RECEIVER = 8
TIMEOUT_SECONDS = 10
CONNECT_SECONDS = 5
ANSWER_BYTES = 64 * 1024
LEASE = timedelta(seconds=2 * TIMEOUT_SECONDS)
LONGEST_PAUSE = 24 * 60 * 60
GONE = 410
LATER = frozenset({429, 503})
LIMITS = {"seconds": TIMEOUT_SECONDS, "connect_seconds": CONNECT_SECONDS, "cap": ANSWER_BYTES}
# While some are under way, how soon it is looked whether others are due.
LOOK_EVERY_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    deliveries: list[Delivery]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """`waits` are the seconds between two attempts; after the last one it has failed. Every secret signs."""

    outbox: Outbox
    wire: httpx.AsyncBaseTransport
    secrets: Sequence[SecretStr]
    waits: Sequence[float]
    clock: Clock
    jitter: Callable[[], float] = jitter
    flights: Flights = field(default_factory=Flights)

    async def deliver_due(self) -> int:
        """Begin with every receiver that something is due for; how many those are."""
        due = await self.outbox.receivers_due(self.clock())
        for receiver in due:
            if receiver in self.flights.under_way:
                continue
            self.flights.start(receiver, partial(self._serve, receiver)).add_done_callback(ended)
        return len(due)

    async def close(self) -> None:
        """What is under way is given back."""
        under_way = list(self.flights.under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def page(
        self,
        limit: int,
        *,
        state: str | None = None,
        invoice_id: str | None = None,
        after: tuple[datetime, str] | None = None,
    ) -> Page:
        """Newest first; `after` is the (created_at, id) of the last one seen."""
        found = await self.outbox.page(limit + 1, state=state, invoice_id=invoice_id, after=after)
        return Page(deliveries=found[:limit], more=len(found) > limit)

    async def of_invoice(self, id: str) -> list[Delivery]:
        """Oldest first."""
        return await self.outbox.of_invoice(id)

    async def backlog(self) -> Backlog:
        """Those that are to be delivered."""
        return await self.outbox.backlog()

    async def paused(self) -> list[tuple[str, datetime]]:
        """The receivers that are only probed, and since when each has failed."""
        return await self.outbox.paused()

    async def redeliver(self, id: str) -> Delivery:
        again = await self.outbox.redeliver(id, self.clock())
        if again is None:
            raise NotFound("There is no such delivery.")
        return again

    async def _serve(self, receiver: str) -> None:
        """Some at a time, until nothing is due for it any more."""
        under_way: set[asyncio.Task[Any]] = set()
        try:
            while True:
                now = self.clock()
                free = AT_ONE_RECEIVER - len(under_way)
                claimed = await self.outbox.claim(receiver, now, now + LEASE, free) if free else []
                under_way |= {asyncio.create_task(self._deliver(*each)) for each in claimed}
                if not under_way:
                    return
                done, under_way = await asyncio.wait(
                    under_way, timeout=LOOK_EVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
        except PaymentError as error:
            log.warning("deliveries.put_off", receiver=receiver, code=error.code)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _deliver(self, delivery: Delivery, event: Event) -> None:
        try:
            attempt, later = await self._attempt(delivery, event)
        except asyncio.CancelledError:
            await self.outbox.give_back(delivery, self.clock())
            raise
        state, due_at = self._next(delivery, attempt, later)
        health = await self.outbox.record(delivery, attempt, state, due_at)
        log.info(
            "delivery.attempted",
            delivery_id=delivery.id,
            invoice_id=delivery.invoice_id,
            type=delivery.type,
            state=state,
            status=attempt.status,
            error=attempt.error,
            ms=attempt.ms,
        )
        if health is not None:
            log.warning("receiver.changed", receiver=delivery.receiver, state=health)

    async def _attempt(self, delivery: Delivery, event: Event) -> tuple[Attempt, int]:
        """What came of it, and how long the receiver wants to be left alone."""
        at, began = self.clock(), perf_counter()
        body = event_body(event)
        headers = {"Content-Type": "application/json", "User-Agent": "Gatehouse", **self._signed(event.id, at, body)}
        status, error, later = None, None, 0
        try:
            answer = await self.wire.handle_async_request(
                httpx.Request("POST", delivery.url, content=body, headers=headers, extensions=LIMITS)
            )
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as failure:
            error = str(failure)
        else:
            status = answer.status_code
            if status in LATER:
                later = seconds_of(answer.headers.get("retry-after"), default=0, longest=LONGEST_PAUSE)
        ms = round((perf_counter() - began) * 1000)
        return Attempt(at=at, status=status, error=error, ms=ms), later

    def _signed(self, id: str, at: datetime, body: bytes) -> Mapping[str, str]:
        """As Standard Webhooks has it, with each secret while one is being rotated; unsigned without any."""
        at = at.astimezone(UTC)
        signatures = [Webhook(secret.get_secret_value()).sign(id, at, body.decode()) for secret in self.secrets]
        signed = {"webhook-signature": " ".join(signatures)} if signatures else {}
        return {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp())), **signed}

    def _next(self, delivery: Delivery, attempt: Attempt, later: int) -> tuple[State, datetime | None]:
        if attempt.status is not None and 200 <= attempt.status < 300:
            return "delivered", None
        if attempt.status == GONE or delivery.tries >= len(self.waits):
            return "failed", None
        wait = max(self.waits[delivery.tries] * self.jitter(), later)
        return "pending", self.clock() + timedelta(seconds=wait)


def ended(task: "asyncio.Task[None]") -> None:
    """What stumbles over itself is begun again when its claims lapse."""
    if not task.cancelled() and (error := task.exception()):
        log.error("deliveries.failed", exc_info=error)
