"""Which invoices an operator wants to see, and where a page of them ended."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

from app.domain.errors import Fault, InvalidRequest
from app.domain.invoice import Invoice, Status
from app.service.cursors import page_cursor, read_page_cursor
from app.service.listing import Listing
from app.service.views import SourceOut
from app.storage.pages import Query

ON_A_PAGE = 25
MOST_FOUND = 50
LONGEST = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`text` is an id of ours or the provider's, an order's, or an e-mail address; "" is no matter."""

    text: str = ""
    provider: str = ""
    status: str = ""
    before: tuple[datetime, str] | None = None

    @property
    def query(self) -> Query:
        return Query(
            limit=ON_A_PAGE,
            provider=self.provider or None,
            status=Status(self.status) if self.status else None,
            after=self.before,
        )

    def older(self, last: Invoice) -> str:
        """The query of the next page."""
        asked = {"provider": self.provider, "status": self.status, "before": page_cursor(last)}
        return urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    invoices: list[Invoice]
    sources: list[SourceOut]
    more: bool = False


def wanted_of(query: Mapping[str, str]) -> Wanted:
    """InvalidRequest where the page gave no such choice."""
    text, provider, status = (query.get(name, "").strip() for name in ("q", "provider", "status"))
    before = place_of(query.get("before", ""))
    faults = {
        "query:q": len(text) > LONGEST or not text.isprintable(),
        "query:provider": len(provider) > LONGEST or not provider.isprintable(),
        "query:status": status not in {"", *Status},
        "query:before": before is None and bool(query.get("before")),
    }
    if any(faults.values()):
        raise InvalidRequest([Fault(name, "is nothing that can be looked for") for name in faults if faults[name]])
    return Wanted(text=text, provider=provider, status=status, before=before)


def place_of(cursor: str) -> tuple[datetime, str] | None:
    """Where a page ended; None for what we never gave out."""
    with suppress(ValueError):
        return read_page_cursor(cursor)
    return None


async def find(listing: Listing, wanted: Wanted) -> Found:
    """Newest first; what was searched for is on one page."""
    if not wanted.text:
        page = await listing.page(wanted.query)
        return Found(invoices=page.invoices, sources=page.sources, more=page.more)
    if "@" in wanted.text:
        return Found(invoices=await by_email(listing, wanted), sources=[])
    query = replace(wanted.query, limit=MOST_FOUND, after=None)
    pages = [
        await listing.page(replace(query, order_id=wanted.text)),
        await listing.page(replace(query, provider_invoice_id=wanted.text)),
    ]
    found = {invoice.id: invoice for page in pages for invoice in page.invoices}
    newest = sorted(found.values(), key=lambda one: (one.created_at, one.id), reverse=True)
    return Found(invoices=newest, sources=pages[0].sources)


async def by_email(listing: Listing, wanted: Wanted) -> list[Invoice]:
    query = wanted.query
    return [
        invoice
        for invoice in await listing.by_email(wanted.text, MOST_FOUND)
        if query.provider in (None, invoice.provider) and query.status in (None, invoice.status)
    ]
