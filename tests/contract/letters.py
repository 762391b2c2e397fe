"""Notifications, spoilt before or after they are signed: none that was touched is believed, none breaks a reader."""

import hmac
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from app.provider import Notification, Provider
from app.providers import build
from tests.contract.mutations import read, spoilt
from tests.contract.tally import Tally, chances

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECRET = "example-secret-of-this-year"
OURS = "inv_01jd0000000000000000000001"
UUID = "506c695a-4187-4463-ac41-07dc0782cb0e"

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "sellapp": {"api_key": "key", "store": "store", "webhook_secret": SECRET},
    "generic": {"public_key": "public", "private_key": SECRET},
    "turinpay": {"api_key": "key"},
}
LETTERS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("sellapp", {"event": "order.completed", "data": {"id": 4321, "payment": {"total": "1999"}}, "store": 1}),
    ("sellapp", {"event": "product.updated", "data": {"id": 7}, "store": 1}),
    ("generic", {"event": "Invoice", "data": {"id": UUID, "externalOrderId": OURS, "status": "PAID"}}),
    (
        "generic",
        {"event": "InvoiceDeposit", "data": {"id": "d-1", "amount": "20.5", "asset": "EUR", "invoiceId": UUID}},
    ),
    ("generic", {"event": "Deposit", "data": {"id": "d-2", "amount": 0.00000001, "asset": "BTC"}}),
    ("generic", {"event": "Withdraw", "data": {"id": "w-1", "amount": "1", "asset": "BTC"}}),
    (
        "turinpay",
        {"id": "0123456789abcdef" * 4, "status": "PAID", "callbackUrl": f"https://gw.example/webhooks/x/{OURS}"},
    ),
    ("turinpay", {"type": "paid", "invoice": {"_id": "0123456789abcdef" * 4}}),
)


@cache
def account(kind: str) -> Provider:
    return build({kind: SETTINGS[kind]}, timeout=10, clock=lambda: NOW)[kind]


def signed(kind: str, body: bytes, *, stamped: bool = False) -> dict[str, str]:
    """The headers that prove it, in one of the forms that its provider has."""
    if kind == "turinpay":
        return {}
    if kind == "generic":
        return {"kun-signature": hmac.digest(SECRET.encode(), body, "sha384").hex()}
    if not stamped:
        return {"signature": hmac.digest(SECRET.encode(), body, "sha256").hex()}
    at = str(int(NOW.timestamp()))
    mac = b64encode(hmac.digest(SECRET.encode(), f"evt_1.{at}.".encode() + body, "sha256")).decode()
    return {"webhook-id": "evt_1", "webhook-timestamp": at, "webhook-signature": f"v1,{mac}"}


def try_many(count: int, seed: int) -> Tally:
    tally = Tally()
    for name, chance in chances(count, seed):
        try_one(tally, chance, name)
    return tally


def try_one(tally: Tally, chance: Random, name: str) -> None:
    kind, told = chance.choice(LETTERS)
    body = json.dumps(told).encode()
    worse, headers = spoilt(chance, body), signed(kind, body, stamped=chance.random() < 0.5)
    for wrong in (*proof_faults(chance, kind, body, worse, headers), *misread(tally, kind, worse)):
        tally.findings.append(f"{name} {kind}: {wrong}; {worse[:2000]!r}")


def misread(tally: Tally, kind: str, body: bytes) -> Iterator[str]:
    try:
        found = account(kind).read_notification(signed(kind, body), body)
    except (ValueError, RecursionError):
        tally.outcomes["unreadable"] += 1
    except Exception as error:  # noqa: BLE001  # it is what is looked for
        yield f"{type(error).__name__}: {error}"
    else:
        tally.outcomes["read"] += 1
        yield from made_up(found, body)


def proof_faults(chance: Random, kind: str, body: bytes, worse: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    provider = account(kind)
    if headers and not provider.verify(headers, body, NOW):
        yield "its own signature does not hold"
    if provider.verify(headers, worse, NOW) and not same(kind, body, worse):
        yield "the signature of another body holds"
    if headers:
        name = chance.choice(sorted(headers))
        other = spoilt(chance, headers[name].encode()).decode("latin-1")
        if other != headers[name] and provider.verify({**headers, name: other}, body, NOW):
            yield f"another {name} holds: {other!r}"


def same(kind: str, body: bytes, other: bytes) -> bool:
    """Whether one signature may prove both: the generic provider's is over the JSON, however it is spaced."""
    try:
        return body == other or (kind == "generic" and read(body) == read(other))
    except (ValueError, RecursionError):
        return False


def made_up(found: Notification, body: bytes) -> Iterator[str]:
    """Ids that are nowhere in the body."""
    leaves = set(texts(json.loads(body.decode(errors="replace"), parse_float=str, parse_int=str)))
    if found.reference is not None and found.reference not in leaves:
        yield f"reference {found.reference!r} was not said"
    if found.our_id is not None and not any(leaf.partition("?")[0].endswith(found.our_id) for leaf in leaves):
        yield f"our id {found.our_id!r} was not said"
    if found.deposit is not None and not {found.deposit.id, found.deposit.asset} <= leaves:
        yield f"deposit {found.deposit} was not said"


def texts(said: Any) -> Iterator[str]:
    match said:
        case str():
            yield said
        case dict():
            for held in said.values():
                yield from texts(held)
        case list():
            for held in said:
                yield from texts(held)
