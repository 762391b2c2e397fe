"""The till: what can be bought, one invoice for every order, and how its payment goes on."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from app.shop.forms import Wish
from app.shop.goods import PRODUCTS, Product, is_served, offered, sells_by_own_list
from app.shop.orders import Order, Orders
from app.shop.payments import HOLD, Payments, Sheet, Trouble

# Seconds; a held read of the service ends before.
LONGEST_HOLD = HOLD + 2


class NotSold(Exception):
    """Such a product isn't sold, or can't be paid in that way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """`url` is the shop's own address. Whatever asks the service raises Trouble where that comes to nothing."""

    url: str
    payments: Payments
    orders: Orders

    async def sheets(self) -> list[Sheet]:
        """Every way to pay here."""
        return [sheet for sheet in await self.payments.sheets() if is_served(sheet)]

    async def products(self, sheet: Sheet) -> list[Product]:
        """What can be paid in that way. Where its currencies can't be told just now, whatever its sheet allows."""
        if sheet.currencies is not None or not sheet.operations.get("assets"):
            return offered(sheet, sheet.currencies)
        try:
            return offered(sheet, await self.payments.currencies(sheet.name))
        except Trouble:
            return offered(sheet, None)

    async def order(self, wish: Wish) -> Order:
        """The same form is the same order, however often it is sent; NotSold."""
        id = f"{wish.form_id}-{wish.product}"
        return self.orders.find(id) or self.orders.open(await self._placed(id, wish))

    async def pay(self, order: Order) -> str | None:
        """Where the shopper is to pay; None where nothing is owed."""
        async with order.paying:
            try:
                return await self._checkout(order)
            except Trouble as trouble:
                order.fail(trouble.problem)
                raise

    async def look(self, order: Order) -> None:
        """How it stands now."""
        if order.invoice_id:
            order.learn(await self.payments.invoice(order.invoice_id))

    async def wait(self, order: Order, since: int, left: Coroutine[Any, Any, None]) -> None:
        """Until the order's revision exceeds `since`, or whoever waits has `left`, or for LONGEST_HOLD seconds."""
        watching = {asyncio.create_task(order.changed(since)), asyncio.create_task(left)}
        if order.revision <= since and order.invoice_id and not order.is_finished:
            watching.add(asyncio.create_task(self._hold(order, order.invoice_id)))
        try:
            done, _ = await asyncio.wait(watching, timeout=LONGEST_HOLD, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in watching:
                each.cancel()

    async def _placed(self, id: str, wish: Wish) -> Order:
        product = PRODUCTS.get(wish.product)
        sheet = next((sheet for sheet in await self.sheets() if sheet.name == wish.provider), None)
        if product is None or sheet is None or product not in await self.products(sheet):
            raise NotSold
        item = {"description": product.name, "quantity": 1, "variant_id": product.variant}
        asked = {
            "provider": sheet.name,
            "amount": product.amount,
            "currency": product.currency,
            "order_id": id,
            "description": product.name,
            "customer": {"email": wish.email},
            "items": [item] if sells_by_own_list(sheet) else [],
            "redirect_url": f"{self.url}/orders/{id}",
            "callback_url": f"{self.url}/hooks",
        }
        return Order(id=id, product=product, provider=sheet.name, asked=asked)

    async def _checkout(self, order: Order) -> str | None:
        if order.is_certain:
            await self.look(order)
        else:
            order.learn(await self.payments.create(order.id, order.asked))
        if order.begun_at:
            return order.begun_at
        visit = await self.payments.checkout(str(order.invoice_id))
        order.learn(visit.invoice)
        return visit.url

    async def _hold(self, order: Order, invoice_id: str) -> None:
        since = order.invoice.version if order.invoice else 0
        order.learn(await self.payments.newer(invoice_id, since))
