"""Read a body once, strictly, and say everything that is wrong with it at once."""

import json
import math
import re
from asyncio import timeout
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError

from app.api.admission import coming_in
from app.api.schemas import Sent
from app.domain.errors import Fault, InvalidRequest, Malformed, NotStrictJson, TooLarge, UnsupportedMediaType
from app.service.faults import body_pointer, faults_of, unknown

M = TypeVar("M", bound=Sent)

MOST_BYTES = 256 * 1024
MOST_UNKNOWN = 100
DEEPEST = 32
JSON = re.compile(r'application/json(\s*;\s*charset\s*=\s*("utf-8"|utf-8))?\s*', re.IGNORECASE | re.ASCII)
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
BOM = b"\xef\xbb\xbf"


async def read(request: Request, most: int = MOST_BYTES) -> bytes:
    """The raw body. TooLarge as soon as it is known to be, Malformed where it takes too long."""
    sized(request, most)
    raw, proved = bytearray(), hasattr(request.state, "caller")
    async with coming_in() as seat:
        try:
            async with timeout(seat.admission.longest_seconds):
                async for chunk in request.stream():
                    raw += chunk
                    if len(raw) > most:
                        raise too_large(most)
                    seat.hold(len(chunk), proved=proved)
        except TimeoutError:
            raise Malformed("The body took too long.") from None
    return bytes(raw)


def sized(request: Request, most: int = MOST_BYTES) -> None:
    """TooLarge, by its own word."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:20]) > most:
        raise too_large(most)


def too_large(most: int) -> TooLarge:
    return TooLarge(f"A body may have at most {most} bytes.")


def require_json(request: Request) -> None:
    """UnsupportedMediaType for anything that does not say it is JSON, uncompressed, in UTF-8."""
    types = request.headers.getlist("content-type")
    if len(types) != 1 or not JSON.fullmatch(types[0]):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json, in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")


def parse(raw: bytes) -> Any:
    """Strict JSON (RFC 8259, I-JSON's limits): one meaning only, whoever reads it; NotStrictJson says what is not."""
    if raw.startswith(BOM):
        raise NotStrictJson("The body starts with a byte order mark.")
    try:
        document = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=finite, parse_float=finite)
        check(document)
    except UnicodeDecodeError as error:
        raise NotStrictJson(f"The body is not UTF-8 at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"The body is not JSON at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise NotStrictJson(f"The body is nested deeper than {DEEPEST} levels.") from error
    except ValueError as error:
        raise NotStrictJson("The body has a number that is too large.") from error
    return document


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotStrictJson("The body names the same field of an object more than once.")
    return found


def finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotStrictJson("The body has a number that is not finite, or too large.")
    return number


def check(document: Any, depth: int = 1) -> None:
    """Nothing is nested too deep, and every text can be stored and sent again."""
    for held in (document,) if isinstance(document, str) else inside(document):
        if isinstance(held, str):
            if UNSTORABLE.search(held):
                raise NotStrictJson("The body has a text with a NUL or half a surrogate pair in it.")
        elif isinstance(held, dict | list):
            if depth == DEEPEST:
                raise NotStrictJson(f"The body is nested deeper than {DEEPEST} levels.")
            check(held, depth + 1)


def inside(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        yield from document
        yield from document.values()
    elif isinstance(document, list):
        yield from document


def validated(model: type[M], document: Any) -> tuple[M, list[Fault]]:
    """The body as far as it is right, and everything that is wrong with it; InvalidRequest where that is too much."""
    strange = strangers(model, document)
    if len(strange) > MOST_UNKNOWN:
        raise InvalidRequest([unknown(body_pointer([name])) for name in strange[:MOST_UNKNOWN]])
    try:
        return model.model_validate(document), []
    except ValidationError as error:
        faults = faults_of(error, body_pointer)
    if not isinstance(document, dict):
        raise InvalidRequest(faults)
    wrong = taken_out(model, faults).union(strange)
    return remaining(model, {name: value for name, value in document.items() if name not in wrong}, faults), faults


def strangers(model: type[Sent], document: Any) -> list[str]:
    """The fields that the body is not known to have."""
    known = model.model_fields
    return [name for name in document if name not in known] if isinstance(document, dict) else []


def remaining(model: type[M], document: dict[str, Any], faults: list[Fault]) -> M:
    """The body without what is wrong with it; InvalidRequest where that says nothing by itself."""
    try:
        return model.model_validate(document)
    except ValidationError:
        raise InvalidRequest(faults) from None


def taken_out(model: type[Sent], faults: Iterable[Fault]) -> set[str]:
    """The top-level fields that faults are about, with those that mean nothing without them."""
    pointers = (fault.pointer.split("/") for fault in faults if fault.pointer.startswith("/"))
    wrong = {pointer[1].replace("~1", "/").replace("~0", "~") for pointer in pointers}
    return wrong | model.together if wrong & model.together else wrong
