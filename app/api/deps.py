"""What a route may ask for: a request judged in the promised order."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic

from fastapi import Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.api import rate_limits
from app.api.bodies import MOST_BYTES, M, parse, read, require_json, sized, taken_out, validated
from app.api.context import caller, services
from app.api.idempotency import IDEMPOTENCY_KEY, key_faults
from app.api.openapi import BODY, body_schema, parameters
from app.api.queries import Q, asked
from app.api.schemas import Nothing, Sent
from app.domain.errors import Fault, InvalidRequest, NotFound
from app.service.keys import Role
from app.service.services import Services

MOST_BYTES_OF_SHOPPER = 16 * 1024

Judge = Callable[[Services, M], list[Fault]]


class Authenticated(SecurityBase, ABC):
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
        await rate_limits.count(request, caller(request))

    def admits(self, request: Request) -> bool:
        """Whether the caller may; a shopper only where shoppers are let in. NotFound: it is another's invoice."""
        found = caller(request)
        if not (self.shoppers and found.invoice_id):
            return found.may(self.role)
        if request.path_params["id"] != found.invoice_id:
            raise NotFound("There is no such invoice.")
        return True

    def admit(self, request: Request) -> None:
        if not self.admits(request):
            caller(request).require(self.role)

    @property
    def required(self) -> Any:
        """The mark that puts it on a parameter of a route."""
        return Security(self, scopes=[self.role.word])


class Asks(Authenticated, Generic[Q]):
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


class Sends(Authenticated, Generic[M]):
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
