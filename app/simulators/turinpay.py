"""TurinPay's REST API (docs.turinpay.com) by its documentation.

Only `CONFIRMED` is documented as an invoice's status: PENDING is invented, EXPIRED inferred. Invented too: the rates,
the fee, the `ln` beyond the amount in its prefix, and that an invoice's description is its intent's order id. Not
found: the method and body of a notification; here it is a POST, by default of the later API's body. It is unsigned.
"""

import secrets
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar
from uuid import uuid4

from app.simulator import (
    TEXT,
    URL,
    Ask,
    Bill,
    Notice,
    Operation,
    Order,
    Player,
    Refused,
    Reply,
    broken,
    dump,
    flag,
    iso,
    number,
    one_of,
    optional,
)

KEY = "sandbox-turinpay-key"
SATOSHI = {"EUR": 1100, "USD": 1000}
LIGHTNING_LIMIT = 4_294_967
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
# Which members are required is not shown; an intent makes no sense without a price.
ASKED = {
    "price": number(Decimal("0.01"), 10**7),
    "currency": one_of(*SATOSHI),
    "orderId": optional(TEXT),
    "notificationUrl": optional(URL),
}


class TurinPay(Player):
    title = "TurinPay"
    pages = ("/checkout/{reference}", "/{reference}")
    credentials: ClassVar = {"api_key": KEY, "checkout_url": "{url}/turinpay/checkout/{checkout_id}"}
    switches: ClassVar = {
        "wrapped": flag(default=False),
        "create_status": one_of(201, 200, default=201),
        "list_shape": one_of("array", "data", default="array"),
        "ln_above_limit": one_of("missing", "null", default="missing"),
        "notification": one_of("later", "invoice", default="later"),
    }
    outcomes: ClassVar = {"paid": "CONFIRMED", "expired": "EXPIRED"}
    words = frozenset({"PENDING", "CONFIRMED", "PAID", "EXPIRED"})
    payable = frozenset({"PENDING"})
    amounts = frozenset({"price"})

    def operations(self) -> Iterable[Operation]:
        """An intent cannot be read and opens no session: whoever wants its state or its checkout reads invoices."""
        yield Operation("create", "POST", "/intents", self.create)
        yield Operation("list", "GET", "/invoice", self.browse, frozenset({"get", "checkout"}))
        yield Operation("get", "GET", "/invoices/{id}", self.get, frozenset({"checkout"}))

    def refuse(self, status: int, message: str) -> Reply:
        return Reply(status, {"success": False, "message": message})

    def admit(self, ask: Ask) -> None:
        """The read of one invoice is documented without a key: none is needed there, but a wrong one is refused."""
        if ask.headers.get("x-api-key", KEY if "id" in ask.named else None) != KEY:
            raise Refused(self.refuse(401, "Unauthorized"))

    def create(self, ask: Ask) -> Reply:
        asked = ask.fields
        if errors := broken(asked, ASKED):
            raise Refused(self.refuse(400, "; ".join(f"{name} {message}" for name, message in errors.items())))
        order = self.desk.open(str(uuid4()), "PENDING", asked)
        intent = {"checkoutId": order.reference, "orderId": asked.get("orderId")}
        return self.wrapped(
            self.desk.switches["create_status"], intent | {name: asked[name] for name in ("price", "currency")}
        )

    def browse(self, _: Ask) -> Reply:
        found = [self.invoice(order) for key, order in self.desk.orders.items() if key == order.notes.get("id")]
        newest = found[::-1]
        return Reply(200, {"data": newest} if self.desk.switches["list_shape"] == "data" else newest)

    def get(self, ask: Ask) -> Reply:
        order = self.find(ask.named["id"])
        if order is None or order.notes.get("id") != ask.named["id"]:
            raise Refused(self.refuse(404, "Invoice not found"))
        return self.wrapped(200, self.invoice(order))

    def wrapped(self, status: int, content: Mapping[str, Any]) -> Reply:
        return Reply(status, {"data": content} if self.desk.switches["wrapped"] else content)

    def visit(self, order: Order) -> None:
        """The hosted checkout makes the intent's invoice, which is then found by its own id too."""
        if "id" in order.notes:
            return
        identity = secrets.token_hex(32)
        order.notes |= {"id": identity, "opened": self.desk.clock(), "noise": bech32(100), "address": bech32(38)}
        self.desk.orders[identity] = order

    def notices(self, order: Order) -> list[Notice]:
        """It is told once something is paid; the PENDING before it only where asked for out of order."""
        url = order.asked.get("notificationUrl")
        if not url or order.word == "EXPIRED":
            return []
        content = self.invoice(order) if self.desk.switches["notification"] == "invoice" else self.told(order)
        return [Notice(url=url, body=dump(content))]

    def told(self, order: Order) -> dict[str, Any]:
        """As far as the later API's sample could be read; its id is a UUID there, here it can be read back."""
        invoice = self.invoice(order)
        amount = satoshi(order)
        return {
            "app_name": "turinpay-gql-backend",
            "payload": {
                "transactionId": f"ln_{invoice['id']}",
                "type": "DEPOSIT_FROM_LIGHTNING",
                "amount": amount,
                "currency": "SAT",
                "description": invoice["description"],
            },
            "domainApp": "TurinPay",
            "executionEnvironment": "SANDBOX_ENVIRONMENT",
            "date": iso(order.changed),
            "invoice": {
                "_id": invoice["id"],
                "createdAt": invoice["createdAt"],
                "executionEnvironment": "SANDBOX_ENVIRONMENT",
                "invoiceDetail": {
                    "_id": invoice["id"],
                    "amount": amount,
                    "description": invoice["description"],
                    "status": "PAID" if order.word == "CONFIRMED" else order.word,
                    "onMempool": False,
                    "chainAddress": invoice["checkout"]["btc"],
                },
            },
        }

    def invoice(self, order: Order) -> dict[str, Any]:
        notes, amount = order.notes, satoshi(order)
        request = f"lnbc{amount * 10}n1p{notes['noise']}" if amount <= LIGHTNING_LIMIT else None
        ln = {"ln": request} if request or self.desk.switches["ln_above_limit"] == "null" else {}
        return {
            "id": notes["id"],
            "status": order.word,
            "customerId": 3,
            "description": order.asked.get("orderId") or "",
            "checkout": {**ln, "btc": f"bc1q{notes['address']}", "url": f"{self.desk.url}/{notes['id']}"},
            "fees": max(1, amount // 100),
            "callbackUrl": order.asked.get("notificationUrl") or "",
            "createdAt": iso(notes["opened"]),
        }

    def bill(self, order: Order) -> Bill:
        checkout = self.invoice(order)["checkout"] if "id" in order.notes else {}
        return Bill(
            provider=self.title,
            amount=f"{order.asked['price']} {order.asked['currency']}",
            facts={
                "Order": order.asked.get("orderId"),
                "Satoshi": f"{satoshi(order):,}",
                "Lightning": checkout.get("ln"),
                "Bitcoin": checkout.get("btc"),
            },
            status=order.word,
        )


def satoshi(order: Order) -> int:
    return max(1, int(order.asked["price"] * SATOSHI[order.asked["currency"]]))


def bech32(length: int) -> str:
    return "".join(secrets.choice(BECH32) for _ in range(length))
