"""The payment service as its merchants know it: the few calls of its public API that the shop makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from pydantic import SecretStr

T = TypeVar("T")

# Seconds. A write may take as long as the provider behind it, and a read is held for as long as is asked.
PATIENCE = 40
HOLD = 20


class Health(msgspec.Struct, frozen=True):
    state: str


class Sheet(msgspec.Struct, frozen=True):
    """What a provider can do. `currencies` None: those that its assets name."""

    name: str
    operations: Mapping[str, bool]
    currencies: tuple[str, ...] | None
    required_fields: tuple[str, ...]
    health: Health


class Sheets(msgspec.Struct, frozen=True):
    data: list[Sheet]


class Asset(msgspec.Struct, frozen=True):
    code: str


class Assets(msgspec.Struct, frozen=True):
    data: list[Asset]


class Place(msgspec.Struct, frozen=True):
    """Where an invoice is paid, once that is known."""

    url: str | None


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop wants to know of an invoice. Amounts are decimal strings in major units."""

    id: str
    order_id: str | None
    status: str
    finished: bool
    paid: bool
    amount: str | None
    currency: str | None
    amount_paid: str | None
    version: int
    stale: bool = False
    checkout: Place | None = None


class Visit(msgspec.Struct, frozen=True):
    """Where the shopper pays; nowhere, where nothing is owed."""

    outcome: Literal["redirect", "completed"]
    url: str | None
    invoice: Invoice


class Event(msgspec.Struct, frozen=True):
    type: str
    timestamp: str
    data: Invoice


class Fault(msgspec.Struct, frozen=True):
    pointer: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call came to nothing (RFC 9457), in words that a shopper may read."""

    status: int
    title: str
    detail: str
    code: str
    invoice_id: str | None = None
    errors: tuple[Fault, ...] = ()


AWAY = Problem(
    status=503,
    title="The payment service can't be reached",
    detail="Please try again in a moment.",
    code="unreachable",
)
SENSELESS = Problem(
    status=502,
    title="The payment service gave no sensible answer",
    detail="Please try again in a moment.",
    code="unreadable",
)


class Trouble(Exception):
    """A call came to nothing; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """Every call raises Trouble where it comes to nothing. `api` is the service's base URL."""

    api: str
    key: SecretStr
    http: httpx.AsyncClient

    async def sheets(self) -> list[Sheet]:
        return (await self._ask("GET", "/v1/providers", Sheets)).data

    async def currencies(self, provider: str) -> frozenset[str]:
        found = await self._ask("GET", f"/v1/providers/{quote(provider, safe='')}/assets", Assets)
        return frozenset(asset.code for asset in found.data)

    async def create(self, key: str, asked: Mapping[str, Any]) -> Invoice:
        """The same key is the same invoice, however often it is sent."""
        return await self._ask("POST", "/v1/invoices", Invoice, json=asked, headers={"Idempotency-Key": key})

    async def checkout(self, id: str) -> Visit:
        return await self._ask("POST", f"/v1/invoices/{id}/checkout", Visit)

    async def invoice(self, id: str) -> Invoice:
        return await self._ask("GET", f"/v1/invoices/{id}", Invoice)

    async def newer(self, id: str, since: int) -> Invoice:
        """As soon as its version exceeds `since`, or else after HOLD seconds."""
        return await self._ask("GET", f"/v1/invoices/{id}", Invoice, params={"wait": HOLD, "since": since})

    async def _ask(self, method: str, path: str, shape: type[T], **more: Any) -> T:
        headers = {"Authorization": f"Bearer {self.key.get_secret_value()}", **more.pop("headers", {})}
        try:
            answer = await self.http.request(method, self.api + path, timeout=PATIENCE, headers=headers, **more)
        except httpx.RequestError as error:
            raise Trouble(AWAY) from error
        return read(answer, shape)


def read(answer: httpx.Response, shape: type[T]) -> T:
    try:
        if answer.is_success:
            return msgspec.json.decode(answer.content, type=shape)
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError as error:
        raise Trouble(SENSELESS) from error
    raise Trouble(problem)
