"""A body is read once and strictly, and everything that is wrong with it is said at once."""

import json
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Response

from app.api.answers import answer
from app.api.bodies import DEEPEST, MOST_BYTES, MOST_UNKNOWN, parse, validated
from app.api.deps import Sends
from app.api.schemas import NewCheckout, NewInvoice
from app.domain.errors import InvalidRequest
from app.service.keys import Role
from tests.callers import JSON, bare, bearer, behind_doors, is_problem, knocking, pointers

pytestmark = pytest.mark.anyio

MARK = "whatever-was-sent"
NEEDED, OPTIONAL = Sends(Role.WRITE, NewInvoice), Sends(Role.WRITE, NewCheckout, optional=True)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = bare()

    @app.post("/needed")
    async def needed(new: Annotated[NewInvoice, NEEDED.required]) -> Response:
        return answer(new.model_dump(exclude_defaults=True))

    @app.post("/optional")
    async def optional(new: Annotated[NewCheckout, OPTIONAL.required]) -> Response:
        return answer(new.model_dump(exclude_defaults=True))

    return behind_doors(app)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with knocking(app, headers={**bearer("write"), **JSON}) as client:
        yield client


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * levels + closing * levels).encode()


NOT_STRICT = {
    "nothing": b"",
    "blanks": b"  ",
    "not UTF-8": b'{"description": "\xff"}',
    "a surrogate in UTF-8": b'{"description": "\xed\xa0\x80"}',
    "UTF-16": '{"description": "a"}'.encode("utf-16"),
    "UTF-32": '{"description": "a"}'.encode("utf-32-le"),
    "a byte order mark": b'\xef\xbb\xbf{"description": "a"}',
    "NaN": b'{"provider_options": {"x": NaN}}',
    "Infinity": b'{"provider_options": {"x": Infinity}}',
    "-Infinity": b'{"provider_options": {"x": -Infinity}}',
    "a number beyond all bounds": b'{"provider_options": {"x": 1e400}}',
    "a number of 5,000 digits": b'{"provider_options": {"x": %s}}' % (b"9" * 5000),
    "a field twice": b'{"amount": "1", "amount": "2"}',
    "a field twice, written in two ways": b'{"amount": "1", "\\u0061mount": "2"}',
    "a field twice, further in": b'{"items": [{"quantity": 1, "quantity": 2}]}',
    "arrays too deep": nested(DEEPEST + 1),
    "objects too deep": nested(DEEPEST, '{"a":', "}").replace(b":}", b":{}}"),
    "arrays very deep": nested(100_000),
    "half a surrogate pair": b'{"description": "\\ud800"}',
    "half a surrogate pair in a name": b'{"metadata": {"\\udfff": "a"}}',
    "a NUL": b'{"metadata": {"a": ["\\u0000"]}}',
    "a NUL in a name": b'{"\\u0000": "a"}',
    "a NUL alone": b'"\\u0000"',
    "a raw control character": b'{"description": "a\nb"}',
    "a comma too many": b'{"description": "a",}',
    "single quotes": b"{'description': 'a'}",
    "a comment": b'{"description": "a"} // a',
    "two documents": b"{}{}",
    "half a document": b'{"description": "',
}


@pytest.mark.parametrize("name", NOT_STRICT)
async def test_a_body_that_is_not_strict_json_is_refused(name: str, client: httpx.AsyncClient) -> None:
    body = is_problem(await client.post("/needed", content=NOT_STRICT[name]), 400, "invalid_request")
    assert "errors" not in body


STRICT = {
    "an object": b"{}",
    "blanks around": b" \r\n\t{} ",
    "a whole surrogate pair": b'{"description": "\\ud83d\\ude00"}',
    "as deep as may be": b'{"provider_options": {"a": %s}}' % nested(DEEPEST - 2),
    "zero": b'{"provider_options": {"a": -0.0}}',
}


@pytest.mark.parametrize("name", STRICT)
async def test_a_body_that_is_strict_json_is_taken(name: str, client: httpx.AsyncClient) -> None:
    answer = await client.post("/needed", content=STRICT[name])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("raw", [b"[]", b"null", b"true", b"1", b'"a"'])
async def test_a_body_that_is_no_object_has_one_fault_at_its_root(raw: bytes, client: httpx.AsyncClient) -> None:
    body = is_problem(await client.post("/needed", content=raw), 422, "invalid_request")
    assert body["errors"] == [{"pointer": "", "message": "must be an object"}]


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON ", "application/json;charset=utf-8", 'application/json; Charset="UTF-8"'],
)
async def test_json_in_utf_8_is_taken(media_type: str, client: httpx.AsyncClient) -> None:
    answer = await client.post("/needed", content=b"{}", headers={"Content-Type": media_type})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/json",
        "application/jsonp",
        "application/problem+json",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; boundary=a",
        "application/json, application/json",
        "application/x-www-form-urlencoded",
    ],
)
async def test_any_other_media_type_is_refused(media_type: str, client: httpx.AsyncClient) -> None:
    refused = await client.post("/needed", content=b"{}", headers={"Content-Type": media_type})
    is_problem(refused, 415, "unsupported_media_type")


async def test_a_body_without_a_media_type_is_refused(client: httpx.AsyncClient) -> None:
    del client.headers["content-type"]
    is_problem(await client.post("/needed", content=b"{}"), 415, "unsupported_media_type")


async def test_two_media_types_are_refused(client: httpx.AsyncClient) -> None:
    twice = [("Content-Type", "application/json")] * 2
    is_problem(await client.post("/needed", content=b"{}", headers=twice), 415, "unsupported_media_type")


async def test_a_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.post("/needed", content=b"{}", headers={"Content-Encoding": "gzip"})
    is_problem(refused, 415, "unsupported_media_type")


def padded(size: int) -> bytes:
    return b"{}".ljust(size)


async def test_a_body_of_the_largest_size_is_taken(client: httpx.AsyncClient) -> None:
    assert (await client.post("/needed", content=padded(MOST_BYTES))).status_code == 200


async def test_one_byte_more_is_too_much(client: httpx.AsyncClient) -> None:
    is_problem(await client.post("/needed", content=padded(MOST_BYTES + 1)), 413, "payload_too_large")


async def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx.AsyncClient) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"{}"

    refused = await client.post("/needed", content=body(), headers={"Content-Length": str(MOST_BYTES + 1)})
    is_problem(refused, 413, "payload_too_large")
    assert not read


async def test_a_body_that_never_ends_is_read_no_further_than_the_limit(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    is_problem(await client.post("/needed", content=endless()), 413, "payload_too_large")
    assert sent <= MOST_BYTES + 1000


async def test_a_length_that_is_a_lie_does_not_help(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield padded(MOST_BYTES + 1)

    is_problem(await client.post("/needed", content=body(), headers={"Content-Length": "2"}), 413, "payload_too_large")


@pytest.mark.parametrize("raw", [b"", b"{}"])
async def test_where_nothing_has_to_be_said_the_body_may_be_left_out(raw: bytes, client: httpx.AsyncClient) -> None:
    answer = await client.post("/optional", content=raw)
    assert (answer.status_code, answer.json()) == (200, {})


async def test_a_body_that_is_left_out_needs_no_media_type(client: httpx.AsyncClient) -> None:
    del client.headers["content-type"]
    assert (await client.post("/optional")).status_code == 200
    is_problem(await client.post("/optional", content=b"{}"), 415, "unsupported_media_type")


async def test_a_body_that_may_be_left_out_is_judged_when_it_is_there(client: httpx.AsyncClient) -> None:
    body = is_problem(await client.post("/optional", json={"amount": "1"}), 422, "invalid_request")
    assert pointers(body) == ["/amount"]


# What is sent, and where its faults are.
FAULTY: dict[str, tuple[Any, list[str]]] = {
    "an unknown field": ({MARK: 1}, [f"/{MARK}"]),
    "a field whose name has to be escaped": ({"a/b~c": 1}, ["/a~1b~0c"]),
    "a status of one's own": ({"status": "completed"}, ["/status"]),
    "an amount as a number": ({"amount": 49.9, "currency": "EUR"}, ["/amount"]),
    "an amount as a whole number": ({"amount": 49, "currency": "EUR"}, ["/amount"]),
    "an amount as a truth": ({"amount": True, "currency": "EUR"}, ["/amount"]),
    "an amount without a currency": ({"amount": "49.90"}, ["/currency"]),
    "a currency without an amount": ({"currency": "EUR"}, ["/amount"]),
    "too many decimals": ({"amount": "49.901", "currency": "EUR"}, ["/amount"]),
    "decimals where there are none": ({"amount": "49.0", "currency": "JPY"}, ["/amount"]),
    "decimals, and something else": ({"amount": "49.901", "currency": "EUR", "order_id": 1}, ["/amount", "/order_id"]),
    "a currency that is none": ({"amount": "1", "currency": "XQQ"}, ["/currency"]),
    "a currency that nobody pays in": ({"amount": "1", "currency": "XAU"}, ["/currency"]),
    "a currency in small letters": ({"amount": "1", "currency": "eur"}, ["/currency"]),
    "a currency and an amount": ({"amount": "1,00", "currency": "euro"}, ["/amount", "/currency"]),
    "an e-mail address": ({"customer": {"email": MARK}}, ["/customer/email"]),
    "an e-mail address with a line end": ({"customer": {"email": "a@b.example\nTo: c"}}, ["/customer/email"]),
    "a phone number": ({"customer": {"phone": MARK}}, ["/customer/phone"]),
    "a country": ({"customer": {"country": "de"}}, ["/customer/country"]),
    "a customer that is a name": ({"customer": MARK}, ["/customer"]),
    "a quantity of nothing": ({"items": [{"quantity": 0}]}, ["/items/0/quantity"]),
    "a quantity without end": ({"items": [{}, {"quantity": 10_001}]}, ["/items/1/quantity"]),
    "a quantity in pieces": ({"items": [{"quantity": 1.5}]}, ["/items/0/quantity"]),
    "a quantity as text": ({"items": [{"quantity": "1"}]}, ["/items/0/quantity"]),
    "a price as a number": ({"items": [{"unit_amount": 1}]}, ["/items/0/unit_amount"]),
    "too many items": ({"items": [{}] * 101}, ["/items"]),
    "items that are one": ({"items": {}}, ["/items"]),
    "too long an order's number": ({"order_id": "a" * 129}, ["/order_id"]),
    "an empty order's number": ({"order_id": ""}, ["/order_id"]),
    "too long a description": ({"description": "a" * 501}, ["/description"]),
    "a description with a bell": ({"description": "a\a"}, ["/description"]),
    "a description that is written backwards": ({"description": "a\u202eb"}, ["/description"]),
    "too much metadata": ({"metadata": {str(n): "a" for n in range(51)}}, ["/metadata"]),
    "a number in metadata": ({"metadata": {"a": 1}}, ["/metadata/a"]),
    "too long a name in metadata": ({"metadata": {"a" * 41: "b"}}, [f"/metadata/{'a' * 41}"]),
    "too long a value in metadata": ({"metadata": {"a": "b" * 501}}, ["/metadata/a"]),
    "options that are a list": ({"provider_options": []}, ["/provider_options"]),
    "everything at once": (
        {"amount": "x", "currency": "EUR", "items": [{"quantity": 0, "a": 1}], "metadata": {"a": None}, "b": 1},
        ["/amount", "/b", "/items/0/a", "/items/0/quantity", "/metadata/a"],
    ),
}


@pytest.mark.parametrize("name", FAULTY)
async def test_every_fault_is_named_and_nothing_is_echoed(name: str, client: httpx.AsyncClient) -> None:
    sent, faults = FAULTY[name]
    answer = await client.post("/needed", json=sent)
    body = is_problem(answer, 422, "invalid_request")
    assert pointers(body) == faults
    assert all(MARK not in fault["message"] for fault in body["errors"])
    assert MARK not in body["detail"]


async def test_of_very_many_unknown_fields_some_are_named(client: httpx.AsyncClient) -> None:
    sent = {"amount": 49.9, **{f"{MARK}-{n}": 0 for n in range(9000)}}
    for path in ("/needed", "/optional"):
        body = is_problem(await client.post(path, json=sent), 422, "invalid_request")
        assert len(body["errors"]) == MOST_UNKNOWN
        assert {fault["message"] for fault in body["errors"]} == {"is not known here"}


async def test_of_many_unknown_fields_each_is_named_with_the_rest(client: httpx.AsyncClient) -> None:
    names = [f"{n:03}{'x' * 200}" for n in range(MOST_UNKNOWN)]
    sent = {"amount": 49.9, "currency": "EUR", **dict.fromkeys(names, 0)}
    body = is_problem(await client.post("/needed", json=sent), 422, "invalid_request")
    assert pointers(body) == sorted(["/amount", *(f"/{name[:100]}" for name in names)])


def test_what_is_right_is_kept_beside_an_unknown_field_of_any_length() -> None:
    for length in (1, 100, 101, 5000):
        new, faults = validated(NewInvoice, {"order_id": "order-17", "x" * length: 0})
        assert (new.order_id, len(faults)) == ("order-17", 1)


def test_refusing_unknown_fields_costs_less_than_reading_them() -> None:
    raw = json.dumps({f"{n:x}": 0 for n in range(25_000)}).encode()
    document = parse(raw)
    read, refused = (min(seconds_of(one) for _ in range(3)) for one in (lambda: parse(raw), lambda: refusing(document)))
    assert refused < read


def refusing(document: Any) -> None:
    with pytest.raises(InvalidRequest):
        validated(NewCheckout, document)


def seconds_of(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


async def test_an_amount_as_a_number_is_told_how_to_be_written(client: httpx.AsyncClient) -> None:
    body = is_problem(await client.post("/needed", json={"amount": 49.9, "currency": "EUR"}), 422, "invalid_request")
    assert '"49.90"' in body["errors"][0]["message"]


ADDRESSES = {
    "https://shop.example/thanks?order={order_id}&invoice={invoice_id}#done": True,
    "http://127.0.0.1:8080/hook": True,
    "https://[::1]:8443/": True,
    "HTTPS://SHOP.EXAMPLE": True,
    "https://xn--bcher-kva.example/a%20b": True,
    "https://shop.example/" + "a" * 2027: True,
    "https://shop.example/" + "a" * 2028: False,
    "": False,
    "shop.example": False,
    "/thanks": False,
    "//shop.example/": False,
    "https:shop.example": False,
    "https:///thanks": False,
    "https://": False,
    "ftp://shop.example/": False,
    "javascript:alert(1)": False,
    "data:text/html,a": False,
    "java\tscript:alert(1)": False,
    "https://user@shop.example/": False,
    "https://user:word@shop.example/": False,
    "https://shop.example\\@evil.example/": False,
    "https://shop.example:99999/": False,
    "https://shop.example:0/": False,
    "https://shop.example:/": False,
    "https://shop.example:٣/": False,
    "https://sh%6fp.example/": False,
    "https://2130706433/": False,
    "https://0x7f.1/": False,
    "https://127.1/": False,
    "https://127.0.0.01/": False,
    "https://shop.1/": False,
    "https://[::1.2]/": False,
    "https://1.shop.example/": True,
    "https://127.0.0.1/": True,
    "https://[::1/": False,
    "https://shop.example/a b": False,
    "https://shop.example/\r\nLocation: x": False,
    "https://shop.example/%0d%0aLocation:x": False,
    "https://shop.example/%00": False,
    " https://shop.example/": False,
    "https://bücher.example/": False,
    'https://shop.example/"><script>': False,
}


@pytest.mark.parametrize(("address", "good"), ADDRESSES.items())
async def test_an_address_means_the_same_to_every_reader(address: str, good: bool, client: httpx.AsyncClient) -> None:
    sent = {"redirect_url": address, "callback_url": address}
    answer = await client.post("/needed", json=sent)
    if good:
        assert answer.json() == sent
    else:
        assert pointers(is_problem(answer, 422, "invalid_request")) == ["/callback_url", "/redirect_url"]


async def test_a_whole_invoice_is_taken_as_it_was_sent(client: httpx.AsyncClient) -> None:
    sent = {
        "provider": "shop2",
        "amount": "49.90",
        "currency": "EUR",
        "order_id": "order-17",
        "description": "Zwei Bücher 📚",
        "customer": {"email": "a@example.org", "name": "A. Reader", "phone": "+49 30 1234567", "country": "DE"},
        "items": [{"description": "Book", "quantity": 2, "unit_amount": "24.95", "variant_id": "4321"}],
        "redirect_url": "https://shop.example/thanks",
        "redirect_button_title": "Back to the shop",
        "callback_url": "https://shop.example/hooks/payments",
        "metadata": {"cart": "c-9", "note": ""},
        "provider_options": {"questionnaire": ["email"], "deposit_callbacks": True},
    }
    answer = await client.post("/needed", json=sent)
    assert answer.json() == sent


async def test_null_is_as_good_as_leaving_it_out(client: httpx.AsyncClient) -> None:
    sent = {"amount": None, "currency": None, "customer": None, "order_id": None, "redirect_url": None}
    assert (await client.post("/needed", json=sent)).json() == {}


async def test_very_many_faults_are_told_up_to_a_point(client: httpx.AsyncClient) -> None:
    sent = json.dumps({"customer": {f"field-{number}": 1 for number in range(5000)}})
    body = is_problem(await client.post("/needed", content=sent.encode()), 422, "invalid_request")
    assert len(body["errors"]) == 1000


async def test_a_query_is_judged_along_with_the_body(client: httpx.AsyncClient) -> None:
    body = is_problem(await client.post("/needed?dry=1", json={"a": 1}), 422, "invalid_request")
    assert pointers(body) == ["/a", "query:dry"]
