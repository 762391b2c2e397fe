"""Whether the providers take our credentials, and whether their clocks are ours."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx

from app.doctor.finding import Finding
from app.domain.errors import Misconfigured, PaymentError, ProviderNotFound, Rejected
from app.domain.invoice import Invoice, Status, new_id
from app.exchange import Exchange
from app.provider import CLOCK_SKEW, Provider
from app.service.clock import utc_now
from app.settings import PROVIDERS

# An id that no provider can have given, in the forms that they give.
NOWHERE = ("999999999999", "00000000-0000-4000-8000-000000000000")


class Dated(httpx.AsyncBaseTransport):
    """Carries, and hears by the answers how far our clock is ahead of each host's."""

    def __init__(self, carrier: httpx.AsyncBaseTransport) -> None:
        self.carrier = carrier
        self.ahead: dict[str | None, timedelta] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.carrier.handle_async_request(request)
        with suppress(KeyError, ValueError, TypeError):
            self.ahead[request.url.host] = utc_now() - parsedate_to_datetime(response.headers["Date"])
        return response


async def account(exchange: Exchange, provider: Provider) -> Finding:
    """Whether a provider takes our credentials: by a read that changes nothing."""
    about = f"provider {provider.name}"
    try:
        await look(exchange, provider)
    except ProviderNotFound:
        pass
    except Misconfigured as error:
        said = error.complaint.message or f"it answered {error.complaint.http_status}"
        return Finding(about, "wrong", f"credentials refused ({said}): check {names(provider)}")
    except PaymentError as error:
        said = f" ({error.complaint.message})" if isinstance(error, Rejected) and error.complaint.message else ""
        return Finding(about, "doubtful", f"could not be asked: {error.detail}{said} Try again, and check its BASE_URL")
    return Finding(about, "good", "credentials accepted")


async def look(exchange: Exchange, provider: Provider) -> None:
    """At the list, else for an invoice that cannot exist, by an id of each form until one is understood."""
    if provider.can("list"):
        await exchange.run(provider, "list", provider.list_invoices())
        return
    for reference in NOWHERE[:-1]:
        with suppress(Rejected):
            await exchange.run(provider, "get", provider.fetch_invoice(nobody(provider, reference)))
    await exchange.run(provider, "get", provider.fetch_invoice(nobody(provider, NOWHERE[-1])))


def nobody(provider: Provider, reference: str) -> Invoice:
    now = utc_now()
    return Invoice(
        id=new_id("inv"),
        provider=provider.name,
        status=Status.PENDING,
        created_at=now,
        updated_at=now,
        reference=reference,
    )


def names(provider: Provider) -> str:
    """The settings of its account."""
    fields = [field for field in type(provider).model_fields if field not in Provider.model_fields]
    return ", ".join(f"{PROVIDERS}{provider.name.upper()}__{field.upper()}" for field in fields)


def clocks(dated: Dated, providers: Iterable[Provider]) -> Iterator[Finding]:
    """Providers whose clock is not ours, which makes them refuse what is signed with the time."""
    for provider in providers:
        skew = dated.ahead.get(provider.base_url.host, timedelta())
        if abs(skew) > CLOCK_SKEW:
            says = f"{provider.name}'s is {abs(skew).total_seconds():.0f} s off ours: have this machine's set by NTP"
            yield Finding("clock", "doubtful", says)
