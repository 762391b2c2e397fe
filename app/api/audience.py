"""Who sees what of an invoice: whoever may write gets its client secret too, and a shopper sees the public part."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from fastapi import Request

from app.api.context import caller, services
from app.service.keys import Role

Members: TypeAlias = Mapping[str, Any]

PRIVATE = frozenset({"customer", "metadata", "callback_url"})


def audience(request: Request) -> Role:
    """The least role that sees as much as this caller does."""
    return min(caller(request).role, Role.WRITE)


def shown(request: Request, invoice: Members) -> Members:
    """An invoice's members as this caller may see them. The secret is made of the id, and never kept with an answer."""
    match audience(request):
        case Role.SHOPPER:
            return {name: value for name, value in invoice.items() if name not in PRIVATE}
        case Role.WRITE:
            addresses = services(request).addresses
            id = str(invoice["id"])
            return {**invoice, "pay_url": addresses.pay(id), "client_secret": addresses.client_secret(id)}
        case _:
            return invoice


def invoice_shown(request: Request, body: bytes) -> Members:
    """The same of an invoice that was encoded before."""
    return shown(request, members(body))


def visit_shown(request: Request, body: bytes) -> Members:
    visit = members(body)
    return {**visit, "invoice": shown(request, members(visit["invoice"]))}


def members(body: bytes | msgspec.Raw) -> dict[str, Any]:
    held = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return {**held, "id": msgspec.json.decode(held["id"])} if "id" in held else {**held}
