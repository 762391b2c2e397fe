"""SellApp (sell.app, invoices v2) by its documentation and its official SDK.

Inferred: Laravel's bodies of errors, newest first as the order of a list, one currency per cart, and that nothing can
be checked out past `expires_at`. Not found: events for other states than those in EVENTS; theirs are invented, and the
switch `invented_events` turns them off. Coupons are accepted and change no price.
"""

import base64
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import Any, ClassVar

from app.simulator import (
    TEXT,
    URL,
    Ask,
    Bill,
    Desk,
    Notice,
    Operation,
    Order,
    Player,
    Refused,
    Reply,
    Rule,
    broken,
    dump,
    flag,
    iso,
    one_of,
    optional,
    whole,
)

KEY = "sandbox-sellapp-key"
STORE = "sandbox"
SECRET = "sandbox-sellapp-webhook-secret-0001"
VARIANTS = {"1000": (0, "USD"), "1001": (1999, "USD"), "1002": (4990, "EUR"), "1003": (1500, "JPY")}
EXPONENTS = {"EUR": 2, "JPY": 0, "USD": 2}
METHODS = """
    AUTHNET BTCPAY CASHAPP COINBASE PADDLE PAYDASH PAYPAL PAYSTACK SQUARE STRIPE VENMO NMI MERCADO_PAGO MOLLIE RAZORPAY
    CUSTOM_PAYMENT_METHOD LIFI BTC LTC ETH XMR SOL ADA BNB TRX MATIC ETH_USDT ETH_USDC ETH_UNI ETH_SHIB ETH_DAI BNB_USDT
    BNB_USDC TRX_USDT TRX_USDC SOL_USDT SOL_USDC
"""
EVENTS = {
    "PENDING": "order.created",
    "PAID": "order.paid",
    "COMPLETED": "order.completed",
    "PARTIAL": "order.partial_paid",
    "DISPUTING": "order.disputed",
}
ASKED = {
    "customer_email": Rule(hint="a valid email address", allows=lambda text: isinstance(text, str) and "@" in text),
    "payment_method": one_of(*METHODS.split()),
    "product_variants": Rule(hint="an object by variant", allows=lambda cart: isinstance(cart, dict) and cart != {}),
    **dict.fromkeys(("coupon", "country", "customer_ip", "vat_id"), optional(TEXT)),
}
FILTERS: Mapping[str, Callable[[Order], Any]] = {
    "id": lambda order: order.reference,
    "email": lambda order: order.asked["customer_email"],
    "status": lambda order: order.word,
    "payment_methods": lambda order: order.asked["payment_method"],
    "transaction_id": lambda order: order.notes["session"].get("transaction_id"),
}
LIFETIME = timedelta(hours=24)
LAPSED = "PENDING past expires_at"


class SellApp(Player):
    title = "SellApp"
    base = "/api"
    credentials: ClassVar = {"api_key": KEY, "store": STORE, "payment_method": "STRIPE", "webhook_secret": SECRET}
    switches: ClassVar = {
        "paid_status": one_of("COMPLETED", "PAID", default="COMPLETED"),
        "free_status": one_of("COMPLETED", "PAID", default="COMPLETED"),
        "webhook_url": optional(URL),
        "standard_webhooks": flag(default=False),
        "invented_events": flag(default=True),
    }
    outcomes: ClassVar = {
        "paid": "COMPLETED",
        "partial": "PARTIAL",
        "failed": "FAILED",
        "expired": LAPSED,
        "canceled": "VOIDED",
        "refunded": "REFUNDED",
    }
    words = frozenset({*EVENTS, "REVERSED", "VOIDED", "REFUNDED", "REVIEW", "FAILED"})
    payable = frozenset({"PENDING", "PARTIAL"})
    amounts = frozenset({"base", "exclusive", "inclusive"})

    def __init__(self, desk: Desk) -> None:
        """Ids begin at the time of the start, so that those of an earlier sandbox do not come again."""
        super().__init__(desk)
        self.ids = count(int(desk.clock().timestamp()))

    def forget(self) -> None:
        super().forget()
        self.desk.switches["webhook_url"] = f"{self.desk.notify}/webhooks/sellapp"

    def operations(self) -> Iterable[Operation]:
        one = "/v2/invoices/{invoice:int}"
        yield Operation("create", "POST", "/v2/invoices", self.create)
        yield Operation("list", "GET", "/v2/invoices", self.browse)
        yield Operation("list", "POST", "/v2/invoices/search", self.search)
        yield Operation("get", "GET", one, lambda ask: Reply(200, {"data": self.invoice(self.known(ask))}))
        yield Operation("checkout", "POST", f"{one}/checkout", self.checkout)
        yield Operation("cancel", "PATCH", f"{one}/mark-voided", partial(self.mark, "VOIDED"))
        yield Operation(None, "PATCH", f"{one}/mark-completed", partial(self.mark, "COMPLETED"))

    def refuse(self, status: int, message: str) -> Reply:
        """Laravel adds `errors` where validation fails."""
        errors = {"errors": {"invoice": [message]}} if status == HTTPStatus.UNPROCESSABLE_ENTITY else {}
        return Reply(status, {"message": message, **errors})

    def admit(self, ask: Ask) -> None:
        if ask.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(self.refuse(401, "Unauthenticated."))
        if ask.headers.get("x-store", STORE) != STORE:
            raise Refused(self.refuse(403, "This action is unauthorized."))

    def create(self, ask: Ask) -> Reply:
        asked = ask.fields
        if errors := wrong(asked):
            raise Refused(invalid(errors))
        cart = [(*VARIANTS[variant], line["quantity"]) for variant, line in asked["product_variants"].items()]
        order = self.desk.open(
            str(next(self.ids)),
            "PENDING",
            asked,
            total=sum(price * quantity for price, _, quantity in cart),
            currency=cart[0][1],
            expires_at=self.desk.clock() + LIFETIME,
            set_at=self.desk.clock(),
            history=[],
            session={},
        )
        return Reply(201, {"data": {**self.bare(order), "checkout": None}})

    def browse(self, ask: Ask) -> Reply:
        for name in ("status", "payment_methods"):
            if name in ask.query:
                raise Refused(invalid({name: "must be an array"}))
        return self.page(ask, {name.removesuffix("[]"): ask.query.getlist(name) for name in ask.query})

    def search(self, ask: Ask) -> Reply:
        return self.page(ask, {name: said if isinstance(said, list) else [said] for name, said in ask.fields.items()})

    def page(self, ask: Ask, filters: Mapping[str, Sequence[Any]]) -> Reply:
        limit, page = counted(ask, "limit", 15, 100), counted(ask, "page", 1, 10**8)
        wanted = [(FILTERS[name], [*map(str, values)]) for name, values in filters.items() if name in FILTERS]
        found = [order for order in self.desk.orders.values() if all(seen(order) in values for seen, values in wanted)]
        if filters.get("sort") != ["created_at"]:
            found.reverse()
        start, last = (page - 1) * limit, max(1, -(-len(found) // limit))
        shown = [self.invoice(order) for order in found[start : start + limit]]
        path = f"{self.desk.url}/api/v2/invoices"
        links = {
            "first": f"{path}?page=1",
            "last": f"{path}?page={last}",
            "prev": f"{path}?page={page - 1}" if page > 1 else None,
            "next": f"{path}?page={page + 1}" if page < last else None,
        }
        meta = {
            "current_page": page,
            "from": start + 1 if shown else None,
            "last_page": last,
            "links": [{"url": f"{path}?page={page}", "label": str(page), "active": True}],
            "path": path,
            "per_page": limit,
            "to": start + len(shown) if shown else None,
            "total": len(found),
        }
        return Reply(200, {"data": shown, "links": links, "meta": meta})

    def checkout(self, ask: Ask) -> Reply:
        """201 with a new session, 200 with the one there is, 200 without an address where nothing is to pay."""
        order = self.known(ask)
        if order.word != "PENDING" or not self.is_payable(order):
            raise Refused(invalid({"invoice.checkout": "must be pending to be checked out"}))
        if order.notes["total"] == 0:
            self.become(order, self.desk.switches["free_status"])
            return Reply(200, {"message": "Nothing is left to pay.", "invoice": self.invoice(order)})
        is_resumed = bool(order.notes["session"])
        url = f"{self.desk.url}/pay/{order.reference}"
        order.notes["session"] = order.notes["session"] or {"transaction_id": secrets.token_hex(8), "checkout_url": url}
        message = "A new payment session has been generated."
        answer = {"message": message, "payment_url": url, "invoice": self.invoice(order)}
        return Reply(200 if is_resumed else 201, answer)

    def mark(self, word: str, ask: Ask) -> Reply:
        order = self.known(ask)
        if (ask.fields.get("expected_status") or order.word) != order.word:
            raise Refused(invalid({"expected_status": f"must be the status, which is {order.word}"}))
        if order.word != "PENDING":
            raise Refused(invalid({"invoice": "must be pending to be marked"}))
        self.become(order, word)
        return Reply(200, self.invoice(order))

    def known(self, ask: Ask) -> Order:
        reference = str(ask.named["invoice"])
        order = self.find(reference)
        if order is None:
            raise Refused(self.refuse(404, f"No query results for model [App\\Models\\Invoice] {reference}"))
        return order

    def word(self, outcome: str) -> str:
        return str(self.desk.switches["paid_status"]) if outcome == "paid" else super().word(outcome)

    def is_payable(self, order: Order) -> bool:
        return super().is_payable(order) and self.desk.clock() < order.notes["expires_at"]

    def become(self, order: Order, word: str) -> None:
        """There is no word for an expired invoice: it stays what it is, past its time."""
        if word == LAPSED:
            order.notes["expires_at"] = self.desk.clock() - timedelta(seconds=1)
            return
        order.notes["history"].append(spell(order))
        super().become(order, word)
        order.notes["set_at"] = order.changed

    def notices(self, order: Order) -> list[Notice]:
        """Nothing tells of an invoice that has expired."""
        switches = self.desk.switches
        event = EVENTS.get(order.word) or (f"order.{order.word.lower()}" if switches["invented_events"] else None)
        is_lapsed = order.word in self.payable and not self.is_payable(order)
        if not switches["webhook_url"] or event is None or is_lapsed:
            return []
        body = dump({"event": event, "data": self.invoice(order), "store": 1})
        vouched = {"Signature": hmac.digest(SECRET.encode(), body, "sha256").hex()}
        if switches["standard_webhooks"]:
            vouched |= stamped(body, int(self.desk.clock().timestamp()))
        return [Notice(url=switches["webhook_url"], body=body, vouched=vouched)]

    def bill(self, order: Order) -> Bill:
        currency = order.notes["currency"]
        return Bill(
            provider=self.title,
            amount=f"{Decimal(order.notes['total']).scaleb(-EXPONENTS[currency])} {currency}",
            facts={"Invoice": order.reference, "Customer": order.asked["customer_email"]},
            status=order.word if self.is_payable(order) or order.word not in self.payable else "expired",
        )

    def invoice(self, order: Order) -> dict[str, Any]:
        """As it is read; the create's answer lacks the variants."""
        variants = [
            {"id": int(variant), "product_id": 1, "title": f"Variant {variant}"}
            for variant in order.asked["product_variants"]
        ]
        return {**self.bare(order), "product_variants": variants}

    def bare(self, order: Order) -> dict[str, Any]:
        asked, notes = order.asked, order.notes
        full = price(notes["total"], notes["currency"])
        charge = {"total": full, "customer_email": asked["customer_email"], **notes["session"]}
        return {
            "id": int(order.reference),
            "payment": {
                "fee": price(0, notes["currency"]),
                "gateway": {"data": charge, "type": asked["payment_method"]},
                "subtotal": full,
                "expires_at": iso(notes["expires_at"], "microseconds"),
                "full_price": full,
                "original_amount": full,
            },
            "status": {"history": list(notes["history"]), "status": spell(order)},
            "webhooks": [],
            "feedback": "",
            "created_at": iso(order.created, "microseconds"),
            "updated_at": iso(order.changed, "microseconds"),
            "store_id": 1,
            "coupon_id": 1 if asked.get("coupon") else None,
            "subscription_id": None,
            "customer_information": customer(asked),
        }


def customer(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": 1,
        "email": asked["customer_email"],
        "country": asked.get("country"),
        "location": "",
        "ip": asked.get("customer_ip") or "127.0.0.1",
        "proxied": False,
        "browser_agent": "",
        "vat": {"amount": "0", "country": asked.get("country")} if asked.get("vat_id") else None,
        "discord_data": {},
        "billing_details": {},
    }


def price(minor: int, currency: str) -> dict[str, Any]:
    total = {"exclusive": str(minor), "inclusive": str(minor)}
    return {"base": str(minor), "currency": currency, "units": 1, "vat": 0, "total": total}


def spell(order: Order) -> dict[str, str]:
    """A state: camelCase, unlike everything around it."""
    since = iso(order.notes["set_at"], "microseconds")
    return {"status": order.word, "setAt": since, "updatedAt": iso(order.changed, "microseconds")}


def wrong(asked: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a create, by dotted key."""
    errors = broken(asked, ASKED)
    if "product_variants" in errors:
        return errors
    for variant, line in asked["product_variants"].items():
        if variant not in VARIANTS:
            errors[f"product_variants.{variant}"] = "must be a variant of this store"
        quantity = broken(line if isinstance(line, dict) else {}, {"quantity": whole(1, 1_000_000)})
        errors |= {f"product_variants.{variant}.{name}": message for name, message in quantity.items()}
    if not errors and len({VARIANTS[variant][1] for variant in asked["product_variants"]}) > 1:
        errors["product_variants"] = "must share one currency"
    return errors


def invalid(errors: Mapping[str, str]) -> Reply:
    texts = {name: f"The {name} field {message}." for name, message in errors.items()}
    return Reply(422, {"message": next(iter(texts.values())), "errors": {name: [text] for name, text in texts.items()}})


def counted(ask: Ask, name: str, default: int, high: int) -> int:
    text = ask.query.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= high:
        raise Refused(invalid({name: f"must be between 1 and {high}"}))
    return int(text)


def stamped(body: bytes, now: int) -> dict[str, str]:
    """The newer form, seen in one receiver only: here the secret is plain bytes, not base64."""
    identity = f"evt_{secrets.token_hex(12)}"
    mac = hmac.digest(SECRET.encode(), f"{identity}.{now}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": identity, "webhook-timestamp": str(now), "webhook-signature": signature}
