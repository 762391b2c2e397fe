"""What browsers send to the operator's page: where from, with which token, and what is in it."""

import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.requests import Request

from app.domain.errors import Fault, Forbidden, InvalidRequest
from app.ops.session import Session

Read: TypeAlias = Callable[[Request], Awaitable[bytes]]
Form: TypeAlias = Mapping[str, str]

MOST_FIELDS = 20
LONGEST_REASON = 500
LONGEST_REFERENCE = 128
OURS = frozenset({"same-origin", "none"})


async def form_of(request: Request, read: Read) -> Form:
    """Forbidden where it was sent by another site's page."""
    if not is_from_here(request):
        raise Forbidden("The form was sent from another site.")
    text = (await read(request)).decode(errors="replace")
    try:
        return dict(parse_qsl(text, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise InvalidRequest([Fault("form", "has too many fields")]) from None


def is_from_here(request: Request) -> bool:
    """By what browsers say of it; one that says neither is judged by the cookie and the token alone."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in OURS
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def require_token(form: Form, session: Session) -> None:
    if not hmac.compare_digest(form.get("token", "").encode(), session.token.encode()):
        raise Forbidden("The form is of another session. Load the page again, and repeat it.")


def reason_of(form: Form) -> str:
    """Why an operator does it; InvalidRequest."""
    return checked(form, reason=LONGEST_REASON)["reason"]


def checked(form: Form, **longest: int) -> Form:
    """These fields, each on one line and not longer than that; InvalidRequest names every fault."""
    found = {name: " ".join(form.get(name, "").split()) for name in longest}
    if faults := [Fault(name, what) for name, most in longest.items() for what in wrong(found[name], most)]:
        raise InvalidRequest(faults)
    return found


def wrong(text: str, most: int) -> Iterator[str]:
    if not text:
        yield "is required"
    elif len(text) > most:
        yield f"must have at most {most} characters"
    elif not text.isprintable():
        yield "has characters that can't be shown"
