"""What a request is made in: the services behind it, and who makes it."""

from collections.abc import Callable

from fastapi import Request
from structlog.contextvars import bind_contextvars

from app.domain.errors import Unauthenticated
from app.observe import note
from app.service.keys import Caller, Keys, bearer
from app.service.services import Services


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def caller(request: Request) -> Caller:
    """Whose key or client secret it is; Unauthenticated where there is none that we know."""
    known: Caller | None = request.scope["state"].get("caller")
    if known is not None:
        return known
    secret = bearer(request.headers.get("authorization", ""))
    found = None if secret is None else caller_of(request, secret)
    if found is None:
        raise Unauthenticated("Send a valid API key as Authorization: Bearer <key>.")
    request.scope["state"]["caller"] = found
    note(request.scope, caller=found.name)
    bind_contextvars(caller=found.name)
    return found


def caller_of(request: Request, secret: str) -> Caller | None:
    state = request.app.state
    keys: Keys = state.keys
    client_of: Callable[[str], str | None] = state.client_of
    found = keys.find(secret)
    if found is None and (invoice_id := client_of(secret)):
        return Caller.shopper(invoice_id)
    return found
