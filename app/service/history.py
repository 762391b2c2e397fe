"""One invoice's life in one line: what was asked and answered, told and told on, and what it did to the invoice."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from app.domain.delivery import Delivery
from app.domain.invoice import Event
from app.domain.notification import ReceivedNotification
from app.domain.trace import Step
from app.observe import shown
from app.service.traces import Traces, readable
from app.service.views import StepOut, moment
from app.storage.feed import EventLog
from app.storage.inbox import Inbox
from app.storage.outbox import Outbox


class Moved(msgspec.Struct):
    """What is told of an event: the invoice's state after it."""

    status: str
    version: int
    provider_status: str | None = None
    amount_paid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    traces: Traces
    inbox: Inbox
    events: EventLog
    outbox: Outbox

    async def of(self, id: str) -> list[StepOut]:
        """Oldest first; nothing secret and no whole e-mail address in it."""
        await self.traces.flush()
        steps = [
            *(step_view(step) for step in await self.traces.journal.of_invoice(id)),
            *(notice_view(notice) for notice in await self.inbox.of_invoice(id)),
            *(event_view(event) for event in await self.events.of_invoice(id)),
        ]
        for delivery in await self.outbox.of_invoice(id):
            steps += attempts(delivery)
        return sorted(steps, key=lambda step: step["at"])


def step_view(step: Step) -> StepOut:
    return seen(step.at, step.kind, **step.facts)


def notice_view(notice: ReceivedNotification) -> StepOut:
    return seen(notice.received_at, "notification", signed=notice.signed, body=readable(notice.body))


def event_view(event: Event) -> StepOut:
    moved = msgspec.json.decode(event.data, type=Moved)
    return seen(event.at, "move", event_id=event.id, type=event.type, **shown_of(moved))


def shown_of(moved: Moved) -> dict[str, Any]:
    return {name: shown(name, value) for name, value in msgspec.structs.asdict(moved).items()}


def attempts(delivery: Delivery) -> Iterator[StepOut]:
    for each in delivery.attempts:
        yield seen(
            each.at,
            "delivery",
            delivery_id=delivery.id,
            type=delivery.type,
            url=shown("", delivery.url),
            status=each.status,
            error=each.error,
            ms=each.ms,
        )


def seen(at: datetime, kind: str, **facts: Any) -> StepOut:
    return {"at": moment(at), "kind": kind, **facts}  # type: ignore[typeddict-item]  # its facts are of its kind
