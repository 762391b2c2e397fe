"""KUNA Pay (kunapay.io), the generic provider, by its documentation and a third-party SDK.

Inferred: the signature over the re-serialised body, 201 and the errors' codes, most nulls, the limits of `take`,
newest first as the order of a list, the event `Invoice`, and the tail of `InvoiceDeposit`. Invented: the names in the
questionnaire, the exchange rates, and that every buyer pays in USDT.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal
from itertools import islice
from operator import ge, le
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode, urlsplit
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
    Rule,
    broken,
    dump,
    flag,
    iso,
    one_of,
    optional,
    whole,
)

Row = TypeVar("Row")

KEY = "sandbox-generic-key"
PUBLIC = "sandbox-generic-public"
PRIVATE = "sandbox-generic-private"
COMPANY = "9a4ec8f0-0000-4000-8000-000000000001"
CREATOR = "9a4ec8f0-0000-4000-8000-000000000002"
ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"
ASSETS = {
    "EUR": ("Euro", "fiat", 2),
    "USD": ("US Dollar", "fiat", 2),
    "UAH": ("Ukrainian Hryvnia", "fiat", 2),
    "USDT": ("Tether", "crypto", 6),
    "BTC": ("Bitcoin", "crypto", 8),
    "ETH": ("Ethereum", "crypto", 18),
}
USDT = {"EUR": "1.1", "USD": "1", "UAH": "0.025", "USDT": "1", "BTC": "60000", "ETH": "3000"}
QUESTIONS = ("email", "phone", "fullName", "address")
ORDERS = ("createdAt", "completedAt", "invoiceAssetCode", "paymentAssetCode", "status")
FUNDED = {"PAID": Decimal(1), "PARTIALLY_PAID": Decimal("0.5")}
COLUMNS: Mapping[str, Callable[[Order], Any]] = {
    "createdAt": lambda order: order.created,
    "completedAt": lambda order: order.notes["completed"],
    "externalOrderId": lambda order: order.asked.get("externalOrderId"),
    "invoiceAssetCode": lambda order: order.asked["asset"],
    "paymentAssetCode": lambda order: "USDT" if order.notes["transactions"] else None,
    "status": lambda order: order.word,
}
FILTERS = ("externalOrderId", "invoiceAssetCode", "paymentAssetCode")
BOUNDS = (
    ("createdFrom", "createdAt", ge),
    ("createdTo", "createdAt", le),
    ("completedFrom", "completedAt", ge),
    ("completedTo", "completedAt", le),
)
LIFETIME = timedelta(hours=24)


class Generic(Player):
    title = "KUNA Pay"
    credentials: ClassVar = {"public_key": PUBLIC, "private_key": PRIVATE}
    switches: ClassVar = {
        "create_status": one_of(201, 200, default=201),
        "wrapped": flag(default=True),
        "payment_link_in_get": flag(default=False),
        "retries": whole(0, 12, default=12),
    }
    outcomes: ClassVar = {
        "paid": "PAID",
        "partial": "PARTIALLY_PAID",
        "failed": "DECLINED",
        "expired": "TIMEOUT",
        "canceled": "DEACTIVATED",
    }
    words = frozenset(
        {*outcomes.values(), "CREATED", "PAYMENT_AWAITING", "CONFIRMATION_AWAITING", "LIMITS_OUT_OF_RANGE"}
    )
    payable = frozenset({"CREATED", "PAYMENT_AWAITING", "PARTIALLY_PAID"})
    amounts = frozenset({"invoiceAmount"})
    patience = 2

    def operations(self) -> Iterable[Operation]:
        yield Operation("create", "POST", "/v1/invoice", self.create)
        yield Operation("list", "GET", "/v1/invoice", self.browse)
        yield Operation("assets", "GET", "/v1/invoice/assets", self.assets)
        yield Operation("questionnaire", "GET", "/v1/invoice/questionnaire", self.questionnaire)
        yield Operation("get", "GET", "/v1/invoice/{id}", self.get)

    def refuse(self, status: int, message: str) -> Reply:
        codes = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 429: "TOO_MANY_REQUESTS"}
        return Reply(status, {"errors": [{"code": codes.get(status, "ERROR"), "message": message}]})

    def admit(self, ask: Ask) -> None:
        headers = ask.headers
        if headers.get("api-key") == KEY:
            return
        nonce = headers.get("nonce", "")
        expected = sign(ask.target.encode() + nonce.encode() + dump(ask.fields))
        is_signed = nonce.isdecimal() and hmac.compare_digest(headers.get("signature", "").encode(), expected.encode())
        if headers.get("public-key") != PUBLIC or not is_signed:
            raise Refused(self.refuse(401, "Wrong key or signature"))

    def create(self, ask: Ask) -> Reply:
        asked = ask.fields
        if errors := wrong(asked):
            faults = [{"code": "BAD_REQUEST", "message": f"{name} {message}"} for name, message in errors.items()]
            raise Refused(Reply(400, {"errors": faults}))
        order = self.desk.open(str(uuid4()), "CREATED", asked, completed=None, transactions=[])
        content = {"id": order.reference, "paymentLink": self.link(order)}
        return self.wrapped(content, self.desk.switches["create_status"])

    def link(self, order: Order) -> str:
        return f"{self.desk.url}/pay/{order.reference}"

    def wrapped(self, content: Any, status: int = 200) -> Reply:
        return Reply(status, {"data": content} if self.desk.switches["wrapped"] else content)

    def get(self, ask: Ask) -> Reply:
        order = self.find(ask.named["id"])
        if order is None:
            raise Refused(self.refuse(404, "Invoice not found"))
        return self.wrapped(self.detail(order))

    def browse(self, ask: Ask) -> Reply:
        key = ask.query.get("orderBy", "createdAt")
        if key not in ORDERS:
            raise Refused(self.refuse(400, f"orderBy must be one of {', '.join(ORDERS)}"))
        equal = [(COLUMNS[name], ask.query[name]) for name in FILTERS if name in ask.query]
        bounds = [(COLUMNS[name], holds, self.bound(ask, query)) for query, name, holds in BOUNDS if query in ask.query]
        found: Iterable[Order] = (
            order
            for order in reversed(self.desk.orders.values())
            if all(seen(order) == value for seen, value in equal)
            and all(seen(order) is not None and holds(seen(order), bound) for seen, holds, bound in bounds)
        )
        if key != "createdAt":
            found = sorted(found, key=lambda order: str(COLUMNS[key](order) or ""), reverse=True)
        return self.wrapped([self.row(order) for order in self.taken(found, ask)])

    def bound(self, ask: Ask, name: str) -> datetime:
        try:
            found = datetime.fromisoformat(ask.query[name])
        except ValueError:
            raise Refused(self.refuse(400, f"{name} must be an RFC 3339 date")) from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def taken(self, rows: Iterable[Row], ask: Ask) -> Iterable[Row]:
        take, skip = ask.query.get("take", "20"), ask.query.get("skip", "0")
        if not re.fullmatch("[0-9]{1,9}", take) or not re.fullmatch("[0-9]{1,9}", skip) or not 1 <= int(take) <= 100:
            raise Refused(self.refuse(400, "take must be from 1 to 100 and skip a whole number"))
        return islice(rows, int(skip), int(skip) + int(take))

    def assets(self, ask: Ask) -> Reply:
        rows = [
            {
                "code": code,
                "name": name,
                "description": name,
                "position": position,
                "precision": precision,
                "type": kind,
                "icons": {"svg": f"{self.desk.url}/icons/{code}.svg", "png": f"{self.desk.url}/icons/{code}.png"},
            }
            for position, (code, (name, kind, precision)) in enumerate(ASSETS.items(), 1)
        ]
        return self.wrapped([*self.taken(rows, ask)])

    def questionnaire(self, _: Ask) -> Reply:
        return self.wrapped([{"name": name} for name in QUESTIONS])

    def become(self, order: Order, word: str) -> None:
        """What funds an invoice leaves a deposit."""
        super().become(order, word)
        order.notes["completed"] = order.changed if word == "PAID" else order.notes["completed"]
        deposits = order.notes["transactions"]
        missing = due(order, FUNDED.get(word, 0)) - sum(Decimal(deposit["amount"]) for deposit in deposits)
        if missing > 0:
            deposits.append(self.deposit(order, f"{missing:f}"))

    def deposit(self, order: Order, amount: str) -> dict[str, Any]:
        return {
            "id": str(uuid4()),
            "address": ADDRESS,
            "amount": amount,
            "asset": "USDT",
            "creatorComment": None,
            "fee": "0",
            "processedAmount": amount,
            "reason": [],
            "status": "Processed",
            "type": "Deposit",
            "paymentCode": "USDT",
            "createdAt": iso(order.changed),
            "updatedAt": iso(order.changed),
        }

    def notices(self, order: Order) -> list[Notice]:
        """One for the state, and before it one for the deposit that brought it about, where the shop wants that."""
        url = order.asked.get("callbackUrl")
        if not url:
            return []
        events = [("Invoice", self.detail(order))]
        if order.asked.get("shouldSendTransactionalCallback") and order.word in FUNDED:
            extra = {
                "type": "InvoiceDeposit",
                "companyId": COMPANY,
                "invoiceId": order.reference,
                "memo": None,
                "txId": None,
            }
            events.insert(0, ("InvoiceDeposit", order.notes["transactions"][-1] | extra))
        bodies = [dump({"event": event, "data": content}) for event, content in events]
        waits = [2**attempt for attempt in range(1, self.desk.switches["retries"] + 1)]
        return [Notice(url=url, body=body, vouched={"kun-signature": sign(body)}, waits=waits) for body in bodies]

    def row(self, order: Order) -> dict[str, Any]:
        asked, is_chosen = order.asked, bool(order.notes["transactions"])
        return {
            "id": order.reference,
            "status": order.word,
            "addressId": ADDRESS if is_chosen else None,
            "externalOrderId": asked.get("externalOrderId"),
            "paymentAmount": f"{due(order):f}" if is_chosen else None,
            "invoiceAmount": asked["amount"],
            "invoiceAssetCode": asked["asset"],
            "paymentAssetCode": "USDT" if is_chosen else None,
            "expireAt": iso(order.created + LIFETIME),
            "completedAt": iso(order.notes["completed"]) if order.notes["completed"] else None,
            "createdAt": iso(order.created),
        }

    def detail(self, order: Order) -> dict[str, Any]:
        link = {"paymentLink": self.link(order)} if self.desk.switches["payment_link_in_get"] else {}
        return {
            **self.row(order),
            **link,
            "creatorId": CREATOR,
            "productCategory": order.asked.get("productCategory"),
            "productDescription": order.asked.get("productDescription"),
            "isCreatedByApi": True,
            "updatedAt": iso(order.changed),
            "transactions": list(order.notes["transactions"]),
        }

    def bill(self, order: Order) -> Bill:
        custom = order.asked.get("customization") or {}
        names = [field["name"] for field in (order.asked.get("questionnaire") or {}).get("schemaFields", [])]
        return Bill(
            provider=self.title,
            amount=f"{order.asked['amount']} {order.asked['asset']}",
            facts={
                "Order": order.asked.get("externalOrderId"),
                "For": order.asked.get("productDescription"),
                "Would ask for": ", ".join(names),
            },
            status=order.word,
            back_url=back(custom.get("redirectUrl"), order),
            back_title=custom.get("redirectButtonTitle"),
        )


def back(url: str | None, order: Order) -> str | None:
    """The shop's address with what tells it which invoice this was."""
    if url is None:
        return None
    told = {"invoiceId": order.reference, "orderId": order.asked.get("externalOrderId")}
    added = urlencode({name: value for name, value in told.items() if value})
    parts = urlsplit(url)
    return parts._replace(query=f"{parts.query}&{added}" if parts.query else added).geturl()


def sign(message: bytes) -> str:
    return hmac.digest(PRIVATE.encode(), message, "sha384").hex()


def due(order: Order, share: Decimal | int = 1) -> Decimal:
    """In USDT, at its precision, rounded up."""
    price = Decimal(order.asked["amount"]) * Decimal(USDT[order.asked["asset"]])
    return (price * share).quantize(Decimal("0.000001"), ROUND_UP)


def is_customization(custom: Any) -> bool:
    return isinstance(custom, dict) and not broken(custom, {"redirectUrl": URL, "redirectButtonTitle": optional(TEXT)})


def is_questionnaire(questionnaire: Any) -> bool:
    fields = questionnaire.get("schemaFields") if isinstance(questionnaire, dict) else None
    return isinstance(fields, list) and all(isinstance(it, dict) and it.get("name") in QUESTIONS for it in fields)


def is_amount(text: Any) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,18})?", text)) and Decimal(text) > 0


ASKED = {
    "asset": one_of(*ASSETS),
    "amount": Rule(hint="a positive decimal string", allows=is_amount),
    **dict.fromkeys(("externalOrderId", "productDescription", "productCategory"), optional(TEXT)),
    "callbackUrl": optional(URL),
    "shouldSendTransactionalCallback": flag(default=False),
    "customization": optional(Rule(hint="an object with a redirectUrl", allows=is_customization)),
    "questionnaire": optional(
        Rule(hint=f"an object with schemaFields of {', '.join(QUESTIONS)}", allows=is_questionnaire)
    ),
}


def wrong(asked: Mapping[str, Any]) -> dict[str, str]:
    errors = broken(asked, ASKED)
    precision = 0 if errors else ASSETS[asked["asset"]][2]
    if not errors and len(asked["amount"].partition(".")[2]) > precision:
        return {"amount": f"must have at most {precision} decimals"}
    return errors
