"""What needs a person, from all over the service."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.domain.invoice import Invoice
from app.domain.trace import Pause
from app.service.services import Services
from app.service.views import SheetOut, instant

MOST_UNKNOWN = 20
REFUSED = "provider_auth_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`path` is where something can be done about it, `since` when it began, each where that is known."""

    title: str
    text: str
    path: str | None = None
    since: str | None = None


async def needs(services: Services, sheets: Sequence[SheetOut], pauses: Sequence[Pause]) -> list[Need]:
    """The most urgent first: money in doubt, then who is not told, then providers."""
    unknown = await services.listing.unknown(MOST_UNKNOWN + 1)
    return [
        *of_invoices(unknown),
        *[
            Need(
                title="Receiver is paused",
                text=f"{receiver} has failed for long, and is only probed.",
                since=instant(since),
            )
            for receiver, since in await services.deliveries.paused()
        ],
        *of_providers(sheets),
        *[
            Need(
                title=f"{pause.provider} is paused",
                text=f"By {pause.by}: {pause.reason}",
                path=f"#provider-{pause.provider}",
                since=instant(pause.since),
            )
            for pause in pauses
        ],
    ]


def of_invoices(unknown: Sequence[Invoice]) -> Iterator[Need]:
    for invoice in sorted(unknown[:MOST_UNKNOWN], key=lambda one: one.mismatched):
        path = f"/ops/invoices/{invoice.id}"
        yield Need(title=title_of(invoice), text=told(invoice), path=path, since=instant(invoice.created_at))
    if len(unknown) > MOST_UNKNOWN:
        yield Need(title="There are more", text="See all that are unknown.", path="/ops/invoices?status=unknown")


def title_of(invoice: Invoice) -> str:
    return "Another amount than asked" if invoice.mismatched else "Created or not?"


def told(invoice: Invoice) -> str:
    amount = f"{invoice.amount.text} {invoice.amount.currency}" if invoice.amount else "An invoice"
    order = f", order {invoice.order_id}" if invoice.order_id else ""
    return f"{amount} at {invoice.provider}{order}"


def of_providers(sheets: Sequence[SheetOut]) -> Iterator[Need]:
    for sheet in sheets:
        name, health = sheet["name"], sheet["health"]
        path = f"#provider-{name}"
        if health["drift"]:
            yield Need(
                title=f"{name} says things we don't know",
                text=f"{health['drift']} times since the start: its answers have drifted from what we read.",
                path=path,
            )
        if health["last_error"] == REFUSED:
            yield Need(title=f"{name} refuses our credentials", text="Check its key in the settings.", path=path)
