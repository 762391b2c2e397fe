"""What a route may ask for: the services, and a request judged in the promised order."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic

import msgspec
from fastapi import Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from structlog.contextvars import bind_contextvars

from app.api import limits
from app.api.bodies import MOST_BYTES, M, parse, read, require_json, sized, taken_out, validated
from app.api.keys import Key, Keys, Role, bearer
from app.api.openapi import BODY, body_schema, parameters
from app.api.queries import Q, asked
from app.api.schemas import Nothing, Sent
from app.domain.errors import Fault, InvalidRequest, NotFound, Unauthenticated
from app.observe import note
from app.service.idempotency import fingerprint
from app.service.services import Services
from app.storage.idempotency import IdempotencyKey

MOST_BYTES_OF_SHOPPER = 16 * 1024
KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and request are one call: its first answer is given again, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}

Judge = Callable[[Services, M], list[Fault]]


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def caller(request: Request) -> Key:
    """Whose key or client secret it is; Unauthenticated where there is none that we know."""
    known: Key | None = request.scope["state"].get("caller")
    if known is not None:
        return known
    secret = bearer(request.headers.get("authorization", ""))
    key = None if secret is None else key_of(request, secret)
    if key is None:
        raise Unauthenticated("Send a valid API key as Authorization: Bearer <key>.")
    request.scope["state"]["caller"] = key
    note(request.scope, caller=key.name)
    bind_contextvars(caller=key.name)
    return key


def key_of(request: Request, secret: str) -> Key | None:
    state = request.app.state
    keys: Keys = state.keys
    client_of: Callable[[str], str | None] = state.client_of
    key = keys.find(secret)
    if key is None and (invoice_id := client_of(secret)):
        return Key.of_shopper(invoice_id, secret)
    return key


def keyed(request: Request, asked: object) -> IdempotencyKey | None:
    """The caller's idempotency key, if one was sent, for what was asked: the path and the body as it was understood."""
    value = request.headers.get("idempotency-key")
    if value is None:
        return None
    canonical = msgspec.json.encode(asked, order="deterministic")
    return IdempotencyKey(
        caller=caller(request).name, value=value, fingerprint=fingerprint(request.url.path, canonical)
    )


def key_faults(request: Request) -> list[Fault]:
    sent = request.headers.getlist("idempotency-key")
    if len(sent) <= 1 and all(KEY.fullmatch(value) for value in sent):
        return []
    return [Fault("header:idempotency-key", "must be 1 to 255 printable ASCII characters, sent once")]


class ByKey(SecurityBase, ABC):
    """A dependency that lets in whoever has a key with the role, and says so in the OpenAPI."""

    scheme_name = "apiKey"
    model = HTTPBearer(
        description="An API key. Its role is read, write or admin; each may do what the one before may. "
        "An invoice's `client_secret` may read it and start its checkout, from a browser."
    )
    docs: dict[str, Any]

    def __init__(self, role: Role, *, shoppers: bool = False) -> None:
        self.role = role
        self.shoppers = shoppers

    @abstractmethod
    async def __call__(self, request: Request) -> Any: ...

    async def count(self, request: Request) -> None:
        """One more call by this caller, whatever it may; Unauthenticated, RateLimited."""
        await limits.count(request, caller(request))

    def admits(self, request: Request) -> bool:
        """Whether the caller may; a shopper only where shoppers are let in. NotFound: it is another's invoice."""
        key = caller(request)
        if not (self.shoppers and key.invoice_id):
            return key.may(self.role)
        if request.path_params["id"] != key.invoice_id:
            raise NotFound("There is no such invoice.")
        return True

    def admit(self, request: Request) -> None:
        if not self.admits(request):
            caller(request).require(self.role)

    @property
    def required(self) -> Any:
        """The mark that puts it on a parameter of a route."""
        return Security(self, scopes=[self.role.word])


class Asks(ByKey, Generic[Q]):
    """A read, judged in this order: key, rate, role, query."""

    def __init__(self, role: Role, query: type[Q], *, shoppers: bool = False) -> None:
        super().__init__(role, shoppers=shoppers)
        self.query = query
        self.docs = {"parameters": parameters(query)}

    async def __call__(self, request: Request) -> Q:
        await self.count(request)
        self.admit(request)
        query, faults = asked(self.query, request)
        refuse(faults)
        return query


class Sends(ByKey, Generic[M]):
    """A write, judged in this order: size, key, rate, media type, body and query, role.

    A body is read only from a caller that is known.
    `judge` finds what the schema can't know. It is asked here only where the request ends here, else the service asks.
    """

    def __init__(
        self,
        role: Role,
        body: type[M],
        *,
        optional: bool = False,
        judge: Judge[M] | None = None,
        query: type[Sent] = Nothing,
        shoppers: bool = False,
    ) -> None:
        super().__init__(role, shoppers=shoppers)
        self.body = body
        self.optional = optional
        self.judge = judge
        self.query = query
        self.docs = {
            "requestBody": {"required": not optional, "content": {BODY: {"schema": body_schema(body)}}},
            "parameters": [IDEMPOTENCY_KEY, *parameters(query)],
        }

    async def __call__(self, request: Request) -> M:
        sized(request)
        await self.count(request)
        raw = await read(request, MOST_BYTES_OF_SHOPPER if caller(request).invoice_id else MOST_BYTES)
        admitted = self.admits(request)
        body, faults = self._read(request, raw)
        faults += [*asked(self.query, request)[1], *key_faults(request)]
        if self.judge and (faults or not admitted):
            known = taken_out(self.body, faults)
            faults += [one for one in self.judge(services(request), body) if not known & taken_out(self.body, [one])]
        refuse(faults)
        self.admit(request)
        return body

    def _read(self, request: Request, raw: bytes) -> tuple[M, list[Fault]]:
        if self.optional and not raw:
            return self.body(), []
        require_json(request)
        return validated(self.body, parse(raw))


def refuse(faults: list[Fault]) -> None:
    if faults:
        raise InvalidRequest(faults)
