"""BlueTape's generic connector by its documentation.

Only `Placed` is printed there as a status on the wire: the other words, the answer to a create and the bodies of 400
and 401 are inferred. It has no notifications that were found, no currency (US dollars are implied) and no list.
"""

import secrets
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote

from app.simulator import (
    TEXT,
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
    number,
    one_of,
)

KEY = "sandbox-bluetape-key"
ACCOUNT = "sandbox-account"
CREDIT = {
    "accountStatus": "active",
    "masterStatus": "active",
    "pastDue30": Decimal("0.0"),
    "pastDue60": Decimal("0.0"),
    "pastDue90": Decimal("0.0"),
    "pastDue90Plus": Decimal("0.0"),
    "availableCredit": Decimal("5000.0"),
    "limit": 10000,
    "balance": 5000,
    "pastDueAmount": 0,
    "processingAmount": Decimal("0.0"),
    "creditType": "LOC",
    "automatedDrawApprovalInfo": {
        "isEnabled": True,
        "singleDrawMaxLimit": 10000,
        "creditLimitPercentageAvailableToUseAutomatically": 10,
        "dailyLimit": 1000000,
        "weeklyLimit": 1000000,
    },
}


class BlueTape(Player):
    title = "BlueTape"
    base = "/genericBthubService"
    credentials: ClassVar = {"api_key": KEY, "account_id": ACCOUNT}
    switches: ClassVar = {
        "create_answer": one_of("blueTapeId", "details", "both", "empty", default="blueTapeId"),
        "create_status": one_of(201, 200, default=201),
        "duplicate": one_of(409, 400, default=409),
    }
    outcomes: ClassVar = {"paid": "Paid", "partial": "PartiallyPaid", "canceled": "Canceled"}
    words = frozenset({"Placed", "PartiallyPaid", "Partially Paid", "Paid", "Canceled", "Cancelled"})
    payable = frozenset({"Placed", "PartiallyPaid", "Partially Paid"})
    amounts = frozenset({"totalAmount"})

    def operations(self) -> Iterable[Operation]:
        one = "/integration/invoice/{id}"
        yield Operation("create", "POST", "/integration/invoice/simplify", self.create)
        yield Operation("get", "GET", f"{one}/status", self.status)
        yield Operation("checkout", "GET", f"{one}/checkout", lambda ask: Reply(200, {"checkOutUrl": self.link(ask)}))
        yield Operation("checkout", "GET", f"{one}/checkout-redirect", self.redirect)
        yield Operation("cancel", "PUT", f"{one}/cancel", self.cancel)

    def refuse(self, status: int, message: str) -> Reply:
        return Reply(status, {"code": str(status), "reason": message})

    def admit(self, ask: Ask) -> None:
        if (ask.headers.get("x-bluetape-key"), ask.headers.get("x-integration-accountid")) != (KEY, ACCOUNT):
            raise Refused(self.refuse(401, "Unauthorized."))

    def create(self, ask: Ask) -> Reply:
        asked = ask.fields
        if errors := broken(asked, ASKED):
            raise Refused(self.refuse(400, "; ".join(f"{name} {message}" for name, message in errors.items())))
        if self.find(asked["id"]):
            raise Refused(self.refuse(self.desk.switches["duplicate"], "Invoice already exists."))
        self.desk.open(asked["id"], "Placed", asked, redirect=None)
        identity = {"blueTapeId": secrets.token_hex(12)}
        details = {"details": {"totalAmount": asked["totalAmount"]}}
        answers = {"blueTapeId": identity, "details": details, "both": identity | details, "empty": {}}
        return Reply(self.desk.switches["create_status"], answers[self.desk.switches["create_answer"]])

    def status(self, ask: Ask) -> Reply:
        """Whole amounts are shown with `.0` here and without it elsewhere, as in the documentation's samples."""
        order = self.known(ask, "Invoice not found.")
        total = Decimal(order.asked["totalAmount"])
        shown = total.quantize(Decimal("0.1")) if total == total.to_integral_value() else total
        content = {"invoiceId": order.reference, "status": order.word, "creditInfo": CREDIT, "totalAmount": shown}
        return Reply(200, content)

    def link(self, ask: Ask) -> str:
        return f"{self.desk.url}/pay/{quote(self.known(ask, 'Invoice not found.').reference, safe='')}"

    def redirect(self, ask: Ask) -> Reply:
        """A bare string. The documentation's curl sample sends the address as a form in the body of the GET."""
        order = self.known(ask, "Invoice not found.")
        form = parse_qs(ask.body.decode(errors="replace")).get("redirectUrl", [None])[0]
        order.notes["redirect"] = ask.query.get("redirectUrl") or form
        return Reply(200, self.link(ask))

    def cancel(self, ask: Ask) -> Reply:
        order = self.known(ask, "Invoice not exists.")
        if order.word not in self.payable:
            state = "canceled" if order.word.startswith("Cancel") else "paid"
            raise Refused(self.refuse(409, f"Invoice already {state}."))
        self.become(order, "Canceled")
        return Reply(202, {})

    def known(self, ask: Ask, reason: str) -> Order:
        order = self.find(ask.named["id"])
        if order is None:
            raise Refused(self.refuse(404, reason))
        return order

    def notices(self, order: Order) -> list[Notice]:  # noqa: ARG002
        return []

    def bill(self, order: Order) -> Bill:
        return Bill(
            provider=self.title,
            amount=f"{order.asked['totalAmount']} USD",
            facts={"Invoice": order.asked["invoiceNumber"], "Due": order.asked["dueDate"]},
            status=order.word,
            back_url=order.notes["redirect"],
        )


def are_payers(payers: Any) -> bool:
    return isinstance(payers, list) and payers != [] and all(map(is_payer, payers))


def is_payer(payer: Any) -> bool:
    return isinstance(payer, dict) and bool(payer.get("emailAddress") or payer.get("cellPhoneNumber"))


def is_date(text: Any) -> bool:
    """A day or a moment: the documentation shows both."""
    try:
        datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return False
    return True


# The full create marks these as required; for the simplified one no marks were found.
ASKED = {
    **dict.fromkeys(("id", "invoiceNumber"), TEXT),
    **dict.fromkeys(
        ("invoiceDate", "dueDate", "expirationDate", "sourceModifiedDate"), Rule(hint="a date", allows=is_date)
    ),
    **dict.fromkeys(("subTotal", "taxAmount", "amountDue"), number(0, 10**12)),
    "totalAmount": number(Decimal("0.01"), 10**12),
    "payersInfo": Rule(hint="people, each with an emailAddress or a cellPhoneNumber", allows=are_payers),
}
