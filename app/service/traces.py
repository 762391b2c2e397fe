"""What an operator sees of one invoice's life: every call about it, and what was said that changed nothing."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, TypeAlias

import msgspec
import structlog

from app.domain.errors import Overloaded
from app.domain.trace import Step
from app.exchange import Heard
from app.observe import shown
from app.service.clock import Clock
from app.storage.journal import Journal

log = structlog.get_logger()

Kind: TypeAlias = Literal["call", "echo", "operator"]

# Steps are kept together: so often, so many at most while the store is away, and so much of a body.
KEEP_EVERY_SECONDS = 0.25
MOST_WAITING = 5000
PRUNE_EVERY = 40
LONGEST_BODY = 16 * 1024
LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Nothing waits for a step to be kept; a crash may lose those of the last moment, which the logs have too."""

    journal: Journal
    clock: Clock
    waiting: deque[Step] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    grown: set[str] = field(default_factory=set)
    turns: Iterator[int] = field(default_factory=lambda: count(1))
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)

    def heard(self, call: Heard) -> None:
        """A call to a provider and what came of it, without anything secret."""
        if call.about is None:
            return
        self._add(
            call.about,
            "call",
            provider=call.provider,
            operation=call.operation,
            method=call.method,
            path=call.path,
            attempt=call.attempt,
            status=call.status,
            outcome=call.outcome,
            ms=call.ms,
            request=readable(call.request),
            response=readable(call.answer),
        )

    def echo(self, invoice_id: str, word: str | None, status: str) -> None:
        """A provider's word that came late or out of order, while the invoice stayed what it was."""
        self._add(invoice_id, "echo", provider_status=shown("", word), status=status)

    def operator(self, invoice_id: str, *, by: str, action: str, reason: str | None) -> None:
        self._add(invoice_id, "operator", by=by, action=action, reason=shown("", reason))

    async def keep(self) -> None:
        """What has happened since the last time; now and then, what is too much is forgotten."""
        await self.flush()
        if next(self.turns) % PRUNE_EVERY == 0 and self.grown:
            await self.journal.prune(self.grown)
            self.grown.clear()

    async def flush(self) -> None:
        """Keep what waits, and what another is just keeping; where that fails, it goes on waiting."""
        async with self.keeping:
            await self._flush()

    async def _flush(self) -> None:
        steps = [self.waiting.popleft() for _ in range(len(self.waiting))]
        if not steps:
            return
        try:
            await self.journal.add(steps)
        except Overloaded:
            self.waiting.extendleft(reversed(steps))
            raise
        self.grown.update(step.invoice_id for step in steps)

    def _add(self, invoice_id: str, kind: Kind, **facts: Any) -> None:
        self.waiting.append(Step(invoice_id=invoice_id, at=self.clock(), kind=kind, facts=facts))


def readable(body: bytes | None) -> Any:
    """A body as it may be shown; None where there is none."""
    if not body:
        return None
    if len(body) > LONGEST_BODY:
        return f"({len(body)} bytes)"
    try:
        return shown("", msgspec.json.decode(body))
    except (ValueError, RecursionError):
        return shown("", body[:LONGEST_TEXT].decode(errors="replace"))
