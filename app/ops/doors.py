"""What an operator may look at."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import RedirectResponse, Response

from app.domain.errors import NotFound, PaymentError
from app.domain.invoice import Invoice, Status
from app.ops.attention import needs
from app.ops.entry import Visit
from app.ops.pages import HEADERS, Pages
from app.ops.search import find, wanted_of
from app.ops.sparklines import Sparklines
from app.service.services import Services
from app.service.views import delivery_view, invoice_view


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    pages: Pages

    async def overview(self, visit: Visit, problem: PaymentError | None = None, status: int = 200) -> Response:
        live, _ = await self._overview(visit)
        return self.pages.page(
            "overview", visit.session, status=status, live=live, problem=problem, done=done_of(visit)
        )

    async def overview_live(self, visit: Visit) -> Response:
        return self.pages.fragment(*await self._overview(visit), visit.seen)

    async def invoices(self, visit: Visit) -> Response:
        wanted = wanted_of(visit.request.query_params)
        offered = visit.services
        with suppress(NotFound):
            named = await offered.invoices.stored(wanted.text)
            return RedirectResponse(f"/ops/invoices/{named.id}", 303, HEADERS)
        found = await find(offered.listing, wanted)
        return self.pages.page(
            "invoices",
            visit.session,
            wanted=wanted,
            invoices=[invoice_view(invoice) for invoice in found.invoices],
            older=wanted.older(found.invoices[-1]) if found.more else None,
            failed=[source["provider"] for source in found.sources if source["state"] == "failed"],
            providers=list(offered.catalog.providers),
            statuses=list(Status),
        )

    async def invoice(self, visit: Visit, problem: PaymentError | None = None, status: int = 200) -> Response:
        invoice = await invoice_of(visit)
        live, _ = await self._invoice(visit, invoice)
        return self.pages.page(
            "invoice",
            visit.session,
            status=status,
            id=invoice.id,
            live=live,
            problem=problem,
            done=done_of(visit),
        )

    async def invoice_live(self, visit: Visit) -> Response:
        return self.pages.fragment(*await self._invoice(visit, await invoice_of(visit)), visit.seen)

    async def _overview(self, visit: Visit) -> tuple[str, str]:
        offered = visit.services
        sheets, pauses = offered.catalog.sheets(), await offered.pauses.all()
        return self.pages.live(
            "overview",
            "/ops/live",
            needs=await needs(offered, sheets, pauses),
            providers=[{**sheet, "calls": calls_of(offered, sheet["name"])} for sheet in sheets],
            pauses={pause.provider: pause for pause in pauses},
            token=visit.session.token,
        )

    async def _invoice(self, visit: Visit, invoice: Invoice) -> tuple[str, str]:
        offered = visit.services
        deliveries = [delivery_view(each) for each in await offered.deliveries.of_invoice(invoice.id)]
        return self.pages.live(
            "invoice",
            f"/ops/invoices/{invoice.id}/live",
            beats=not invoice.finished or any(each["state"] == "pending" for each in deliveries),
            invoice=invoice_view(invoice),
            mismatched=invoice.mismatched,
            may=allowed(offered, invoice),
            steps=await offered.history.of(invoice.id),
            deliveries=deliveries,
            token=visit.session.token,
        )


async def invoice_of(visit: Visit) -> Invoice:
    """The invoice that the path names; NotFound."""
    return await visit.services.invoices.stored(visit.request.path_params["id"])


def allowed(services: Services, invoice: Invoice) -> dict[str, Any]:
    """What can be done about it just now."""
    provider = services.catalog.providers.get(invoice.provider)
    return {
        "refresh": provider is not None and provider.can("get"),
        "cancel": provider is not None and provider.can("cancel") and invoice.changeable,
        "resolve": invoice.status is Status.UNKNOWN,
    }


def calls_of(services: Services, name: str) -> Sparklines | None:
    return Sparklines.of(list(services.catalog.lane(name).calls))


def done_of(visit: Visit) -> str | None:
    """What was done just before, by which a page came to be loaded."""
    return visit.request.query_params.get("done")
