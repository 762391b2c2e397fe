"""What providers' answers say of an invoice, read a second time: nothing else may be claimed of it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import Any

from app.domain.invoice import Snapshot, Status

# Of the currencies that are spoken of in the recorded conversations, those without cents.
DECIMALS = {"JPY": 0, "KRW": 0}
BITCOINS = re.compile("lnbc([0-9]+)([munp]?)1[^1]+", re.IGNORECASE | re.ASCII)
PARTS = {"": 0, "m": -3, "u": -6, "n": -9, "p": -12}


@dataclass(frozen=True)
class Said:
    """Its own words: an id, a word for the status, an amount in its currency; None is what was not told.

    `made`: the amount as a create's answer tells it, where that is another place.
    """

    id: str | None = None
    word: str | None = None
    amount: tuple[Decimal | None, str | None] | None = None
    made: tuple[Decimal | None, str | None] | None = None


def untruths(kind: str, seen: Snapshot) -> Iterator[str]:
    """Everything in it that was not said in just that place, and a page that is none."""
    if seen.checkout and seen.checkout.url and not seen.checkout.url.lower().startswith(("http://", "https://")):
        yield f"page {seen.checkout.url!r}"
    if not seen.raw:
        return
    said = READERS[kind](exactly(seen.raw.decode(errors="replace")))
    if said.id is not None and said.id not in (seen.reference, seen.linked_reference):
        yield f"id {seen.reference!r} instead of {said.id!r}"
    if seen.word is not None and (seen.word != said.word or seen.status not in meanings(kind, seen)):
        yield f"status {seen.status} and word {seen.word!r} instead of {said.word!r}"
    amount = said.made if seen.word is None and said.made else said.amount
    if seen.amount is not None and (seen.amount.amount, seen.amount.currency) != amount:
        yield f"amount {seen.amount} instead of {amount}"


def meanings(kind: str, seen: Snapshot) -> set[Status | None]:
    """What its word may mean; where it tells of its end, also that this has passed."""
    words: Mapping[str, Status] = import_module(f"app.providers.{kind}").STATUSES
    return {words.get(seen.word or ""), *([Status.EXPIRED] if seen.expires_at else [])}


def exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def generic(said: Any) -> Said:
    amount = (number(said.get("invoiceAmount")), said.get("invoiceAssetCode"))
    return Said(id=said["id"], word=said.get("status"), amount=amount)


def bluetape(said: Any) -> Said:
    details = said.get("details")
    made = (number(details.get("totalAmount")), "USD") if isinstance(details, dict) else None
    return Said(word=said.get("status"), amount=(number(said.get("totalAmount")), "USD"), made=made)


def sellapp(said: Any) -> Said:
    price = said["payment"]["full_price"]
    units = Decimal(price["total"]["inclusive"]).scaleb(-DECIMALS.get(price["currency"], 2))
    word = said["status"]["status"]["status"]
    return Said(id=str(said["id"]), word=word, amount=(units, price["currency"]))


def turinpay(said: Any) -> Said:
    ways = said.get("checkout") or {}
    found = BITCOINS.fullmatch(ways.get("ln") or "") if "id" in said else None
    amount = Decimal(found[1]).scaleb(PARTS[found[2].lower()]) if found else None
    id = said.get("id") if "status" in said else said.get("checkoutId")
    return Said(id=id, word=said.get("status"), amount=(amount, "BTC"))


def number(said: Any) -> Decimal | None:
    return None if said is None else Decimal(said)


READERS: Mapping[str, Callable[[Any], Said]] = {
    reader.__name__: reader for reader in (generic, bluetape, sellapp, turinpay)
}
