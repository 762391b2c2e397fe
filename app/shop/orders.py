"""The orders of the shop, and what is known of each one's payment."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.shop.goods import Product
from app.shop.payments import Event, Invoice, Problem

MOST_ORDERS = 500
MOST_EVENTS = 50


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """`asked` is the create of its invoice. `revision` rises with all that a shopper can see of it.

    `invoice_id` is known before `invoice` where it is in doubt whether there is one. `trouble` is why the last try to
    pay came to nothing, and `paying` lets one such try in at a time. `events` are those received, by the id of each.
    """

    id: str
    product: Product
    provider: str
    asked: Mapping[str, Any]
    invoice_id: str | None = None
    invoice: Invoice | None = None
    trouble: Problem | None = None
    paying: asyncio.Lock = field(default_factory=asyncio.Lock)
    events: dict[str, Event] = field(default_factory=dict)
    revision: int = 1
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_certain(self) -> bool:
        """Whether there is an invoice for it."""
        return self.invoice is not None and self.invoice.status != "unknown"

    @property
    def is_open(self) -> bool:
        """Whether something may still be paid."""
        return self.invoice is None or not (self.invoice.finished or self.invoice.paid)

    @property
    def is_finished(self) -> bool:
        return self.invoice is not None and self.invoice.finished

    @property
    def begun_at(self) -> str | None:
        """Where a part of it was paid: the rest is paid there too, and some providers open nothing else for it."""
        if self.invoice is None or self.invoice.checkout is None or self.invoice.status != "partially_paid":
            return None
        return self.invoice.checkout.url

    def learn(self, invoice: Invoice) -> None:
        """What the service says of its invoice: by version it only goes forward."""
        self.invoice_id = invoice.id
        if invoice != self.invoice and (self.invoice is None or invoice.version >= self.invoice.version):
            self.invoice = invoice
            self._ring()

    def receive(self, id: str, event: Event) -> None:
        """One that came before changes nothing, nor does one of another invoice."""
        if id in self.events or self.invoice_id not in {None, event.data.id}:
            return
        self.events[id] = event
        if len(self.events) > MOST_EVENTS:
            del self.events[next(iter(self.events))]
        self._ring()
        self.learn(event.data)

    def fail(self, problem: Problem) -> None:
        self.trouble = problem
        self.invoice_id = self.invoice_id or problem.invoice_id
        self._ring()

    async def changed(self, since: int) -> None:
        """Until its revision exceeds `since`."""
        while self.revision <= since:
            await self.bell.wait()

    def _ring(self) -> None:
        self.revision += 1
        self.bell.set()
        self.bell = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Orders:
    """The newest ones, in memory."""

    known: OrderedDict[str, Order] = field(default_factory=OrderedDict)

    def find(self, id: str | None) -> Order | None:
        return self.known.get(id or "")

    def open(self, order: Order) -> Order:
        """The one of this id, which may have been opened before."""
        opened = self.known.setdefault(order.id, order)
        if len(self.known) > MOST_ORDERS:
            self.known.popitem(last=False)
        return opened
