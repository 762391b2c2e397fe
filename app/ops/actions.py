"""What an operator may do, each time under the name of the key."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import RedirectResponse, Response

from app.domain.errors import Fault, InvalidRequest, NotFound, PaymentError
from app.domain.invoice import Invoice
from app.observe import note
from app.ops.doors import Doors, invoice_of
from app.ops.entry import FRONT, Visit
from app.ops.forms import LONGEST_REASON, LONGEST_REFERENCE, checked, reason_of
from app.ops.pages import HEADERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What the service refuses is told on the page that it was asked on."""

    doors: Doors
    status_of: Callable[[type[PaymentError]], int]

    async def pause(self, visit: Visit) -> Response:
        return await self._at_provider(visit, visit.services.pauses.pause, "paused")

    async def resume(self, visit: Visit) -> Response:
        return await self._at_provider(visit, visit.services.pauses.resume, "resumed")

    async def refresh(self, visit: Visit) -> Response:
        """The provider is asked now."""

        async def ask(invoice: Invoice) -> None:
            await visit.services.invoices.get(invoice.id, refresh=True)
            audit(visit, invoice.id, "refreshed")

        return await self._about_invoice(visit, ask, "refreshed")

    async def cancel(self, visit: Visit) -> Response:
        """Who wanted it is kept whatever comes of it: even without an answer it may have been done."""

        async def cancel(invoice: Invoice) -> None:
            reason = reason_of(visit.form)
            audit(visit, invoice.id, "asked to cancel", reason)
            await visit.services.invoices.cancel(invoice.id)

        return await self._about_invoice(visit, cancel, "canceled")

    async def resolve(self, visit: Visit) -> Response:
        async def resolve(invoice: Invoice) -> None:
            reference, reason = found_out(visit)
            await visit.services.operators.resolve(
                invoice.id, by=visit.session.name, reason=reason, provider_invoice_id=reference
            )

        return await self._about_invoice(visit, resolve, "resolved")

    async def redeliver(self, visit: Visit) -> Response:
        async def again(invoice: Invoice) -> None:
            delivery = visit.request.path_params["delivery"]
            if delivery not in {each.id for each in await visit.services.deliveries.of_invoice(invoice.id)}:
                raise NotFound("There is no such delivery.")
            await visit.services.deliveries.redeliver(delivery)
            audit(visit, invoice.id, f"redelivered {delivery}")

        return await self._about_invoice(visit, again, "redelivered")

    async def _at_provider(self, visit: Visit, act: Callable[..., Awaitable[None]], done: str) -> Response:
        try:
            await act(visit.request.path_params["name"], by=visit.session.name, reason=reason_of(visit.form))
        except PaymentError as error:
            return await self.doors.overview(visit, error, self._status(visit, error))
        return back(FRONT, done)

    async def _about_invoice(self, visit: Visit, act: Callable[[Invoice], Awaitable[None]], done: str) -> Response:
        invoice = await invoice_of(visit)
        try:
            await act(invoice)
        except PaymentError as error:
            return await self.doors.invoice(visit, error, self._status(visit, error))
        return back(f"/ops/invoices/{invoice.id}", done)

    def _status(self, visit: Visit, error: PaymentError) -> int:
        note(visit.request.scope, code=error.code)
        return self.status_of(type(error))


def found_out(visit: Visit) -> tuple[str | None, str]:
    """The provider's id of the invoice, None where nothing was created, and why; InvalidRequest."""
    if visit.form.get("outcome") == "not_created":
        return None, reason_of(visit.form)
    if visit.form.get("outcome") != "created":
        raise InvalidRequest([Fault("outcome", "must be one of the two")])
    told = checked(visit.form, provider_invoice_id=LONGEST_REFERENCE, reason=LONGEST_REASON)
    return told["provider_invoice_id"], told["reason"]


def audit(visit: Visit, invoice_id: str, action: str, reason: str | None = None) -> None:
    visit.services.operators.audit(invoice_id, by=visit.session.name, action=action, reason=reason)


def back(path: str, done: str) -> Response:
    """To the page, so that loading it again does nothing again."""
    return RedirectResponse(f"{path}?done={done}", 303, HEADERS)
