"""Spoil what was well said, as strangers and broken machines do; each way is drawn from a source of chance."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Way = Callable[[Random, bytes], bytes]


class Members(list[tuple[str, Any]]):
    """A JSON object as it is written: in its order, and with a name that comes twice."""


class Written(str):
    """What is put into JSON just as it stands: a number with all its digits, or what is no JSON at all."""

    __slots__ = ()


DEEP = ("[" * 3000 + "]" * 3000, '{"a":' * 900 + "1" + "}" * 900)
# fmt: off
ODD: tuple[Any, ...] = (
    None, True, False, "", " ", "0", "-1", "19.99", "1999/100", "NaN", "1e5", "null", "\0", "a\0b", "\ud800", "\u202e",
    "PAID", "paid", "COMPLETED", "CONFIRMED", "Canceled", "no-such-word", "USD", "XAU", "\N{ARABIC-INDIC DIGIT FIVE}",
    "x" * 5000, "https://elsewhere.example/", "javascript:alert(1)", "https://gw.example/webhooks/shop/inv_0",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-02-30T00:00:00Z", "2026-01-02T00:00:00+23:59",
    *map(Written, (
        "0", "-1", "1.5", "1e400", "-1e-400", "9" * 400, "1E9999999", "0." + "1" * 60, "NaN", "Infinity", "01",
        "9007199254740993", "18446744073709551616", '"\\ud83d"', '"\ud800"', "undefined", "[]", "{}", "[[]]",
        "[null]", *DEEP,
    )),
)
# fmt: on
BYTES = (b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\xed\xa0\x80", *(b"%c" % sign for sign in b'"\\{}[],:'))
BODIES = (b"", b"null", b"7", b'"ok"', b"[]", b"{}", b"<html>", b"\xff\xfe", b"\x1f\x8b\x08\0", b"[" * 200_000)


def spoilt(chance: Random, body: bytes) -> bytes:
    """The body with one to three things wrong with it."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        body = chance.choice(WAYS)(chance, body)
    return body


def inside(chance: Random, body: bytes) -> bytes:
    """Something in the JSON is another; bytes that are none, or are nested too deep, are spoilt as bytes."""
    try:
        document = read(body)
        places = list(containers(document))
        chance.choice(CHANGES)(chance, chance.choice(places), chance.choice(places))
        return write(document)
    except (ValueError, LookupError, RecursionError):
        return patched(chance, body)


def patched(chance: Random, body: bytes) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] + chance.choice(BYTES) + body[at + chance.randint(0, 3) :]


def cut(chance: Random, body: bytes) -> bytes:
    return body[: chance.randint(0, len(body))]


def flipped(chance: Random, body: bytes) -> bytes:
    if not body:
        return b"\x80"
    at = chance.randrange(len(body))
    return body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]


def replaced(chance: Random, _: bytes) -> bytes:
    return chance.choice(BODIES)


def doubled(_: Random, body: bytes) -> bytes:
    return body * 2


WAYS: tuple[Way, ...] = (*[inside] * 12, patched, cut, flipped, replaced, doubled)


def dropped(chance: Random, held: Any, _: Any) -> None:
    del held[chance.randrange(len(held))]


def retyped(chance: Random, held: Any, _: Any) -> None:
    put(held, chance.randrange(len(held)), chance.choice(ODD))


def nested(chance: Random, held: Any, _: Any) -> None:
    at = chance.randrange(len(held))
    value = member(held, at)
    put(held, at, chance.choice(([value], Members([("data", value)]), Members([("value", value), ("error", "no")]))))


def moved(chance: Random, held: Any, other: Any) -> None:
    put(held, chance.randrange(len(held)), member(other, chance.randrange(len(other))))


def renamed(chance: Random, held: Any, other: Any) -> None:
    at = chance.randrange(len(held))
    if isinstance(held, Members):
        names = ("", "data", "error", "reason", "id", "status", *(name for name, _ in held), held[at][0].upper())
        held[at] = (chance.choice(names), held[at][1])
    else:
        moved(chance, held, other)


def twice(chance: Random, held: Any, other: Any) -> None:
    """The same name or entry once more, before or after, and perhaps with another value."""
    at = chance.randrange(len(held))
    held.insert(chance.randint(0, len(held)), held[at])
    chance.choice((retyped, moved, lambda *_: None))(chance, held, other)


CHANGES: tuple[Callable[[Random, Any, Any], None], ...] = (dropped, *[retyped] * 4, nested, moved, renamed, twice)


def containers(document: Any) -> Iterator[Any]:
    """Every object and array that has something in it."""
    if isinstance(document, list) and document:
        yield document
        for value in document:
            yield from containers(value[1] if isinstance(document, Members) else value)


def member(held: Any, at: int) -> Any:
    """A copy, or what is moved into itself would have no end."""
    value = held[at][1] if isinstance(held, Members) else held[at]
    return read(write(value)) if isinstance(value, list) else value


def put(held: Any, at: int, value: Any) -> None:
    held[at] = (held[at][0], value) if isinstance(held, Members) else value


def read(body: bytes) -> Any:
    return json.loads(
        body.decode(), object_pairs_hook=Members, parse_int=Written, parse_float=Written, parse_constant=Written
    )


def write(document: Any) -> bytes:
    return written(document).encode(errors="surrogatepass")


def written(value: Any) -> str:
    match value:
        case Written():
            return str(value)
        case Members():
            return "{" + ",".join(f"{json.dumps(name)}:{written(held)}" for name, held in value) + "}"
        case list():
            return "[" + ",".join(map(written, value)) + "]"
        case _:
            return json.dumps(value)
