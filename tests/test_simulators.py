"""The fake providers, spoken to by hand as their documentation tells it."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from app.simulator import SandboxProtocol, create_sandbox, credentials
from tests.simulator_desk import (
    BLUETAPE,
    BOARDS,
    CART,
    GENERIC,
    SELLAPP,
    TURINPAY,
    Sandbox,
    address,
    client,
    mac,
    open_sandbox,
)

pytestmark = pytest.mark.anyio

WEBHOOK_SECRET = "sandbox-sellapp-webhook-secret-0001"
PRIVATE = "sandbox-generic-private"
PROVIDERS = ("bluetape", "generic", "sellapp", "turinpay")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox() as sandbox:
        yield sandbox


async def test_the_credentials_are_settings_by_kind() -> None:
    told = credentials("http://127.0.0.1:9000")

    assert {name: told[name] for name in PROVIDERS} == {
        "sellapp": {
            "base_url": "http://127.0.0.1:9000/sellapp/api",
            "api_key": "sandbox-sellapp-key",
            "store": "sandbox",
            "payment_method": "STRIPE",
            "webhook_secret": WEBHOOK_SECRET,
        },
        "bluetape": {
            "base_url": "http://127.0.0.1:9000/bluetape/genericBthubService",
            "api_key": "sandbox-bluetape-key",
            "account_id": "sandbox-account",
        },
        "turinpay": {
            "base_url": "http://127.0.0.1:9000/turinpay",
            "api_key": "sandbox-turinpay-key",
            "checkout_url": "http://127.0.0.1:9000/turinpay/checkout/{checkout_id}",
        },
        "generic": {
            "base_url": "http://127.0.0.1:9000/generic",
            "public_key": "sandbox-generic-public",
            "private_key": PRIVATE,
        },
    }


async def test_the_index_says_what_is_here(sandbox: Sandbox) -> None:
    page = await sandbox.http.get("/")

    assert page.status_code == 200
    assert all(f"{sandbox.url}/{name}" in page.text for name in PROVIDERS)
    assert "/_control/" in page.text


# SellApp


async def test_a_sellapp_invoice_is_created_pending_with_prices_in_minor_units(sandbox: Sandbox) -> None:
    created = await sandbox.sold()

    assert isinstance(created["id"], int)
    assert created["checkout"] is None
    assert "product_variants" not in created
    assert created["status"]["status"] == {
        "status": "PENDING",
        "setAt": "2026-11-22T08:00:00.000000Z",
        "updatedAt": "2026-11-22T08:00:00.000000Z",
    }
    assert created["status"]["history"] == []
    assert created["payment"]["full_price"] == {
        "base": "3998",
        "currency": "USD",
        "units": 1,
        "vat": 0,
        "total": {"exclusive": "3998", "inclusive": "3998"},
    }
    assert created["payment"]["expires_at"] == "2026-11-23T08:00:00.000000Z"
    assert created["customer_information"]["email"] == "a@example.org"


async def test_a_sellapp_invoice_is_read_with_its_variants(sandbox: Sandbox) -> None:
    created = await sandbox.sold()

    read = await sandbox.sellapp("GET", f"/{created['id']}")

    assert read.status_code == 200
    assert read.json()["data"].pop("product_variants") == [{"id": 1001, "product_id": 1, "title": "Variant 1001"}]
    assert "checkout" not in read.json()["data"]


@pytest.mark.parametrize(
    ("variant", "total", "currency"), [("1000", "0", "USD"), ("1002", "4990", "EUR"), ("1003", "1500", "JPY")]
)
async def test_each_sellapp_variant_has_its_price(sandbox: Sandbox, variant: str, total: str, currency: str) -> None:
    price = (await sandbox.sold(product_variants={variant: {"quantity": 1}}))["payment"]["full_price"]

    assert (price["total"]["inclusive"], price["currency"]) == (total, currency)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"customer_email": None}, "customer_email"),
        ({"payment_method": ["STRIPE"]}, "payment_method"),
        ({"product_variants": {}}, "product_variants"),
        ({"product_variants": {"4711": {"quantity": 1}}}, "product_variants.4711"),
        ({"product_variants": {"1001": {"quantity": 0}}}, "product_variants.1001.quantity"),
        ({"product_variants": {"1001": 1}}, "product_variants.1001.quantity"),
        ({"product_variants": {"1001": {"quantity": 1}, "1002": {"quantity": 1}}}, "product_variants"),
        ({"coupon": 5}, "coupon"),
    ],
)
async def test_sellapp_names_what_is_wrong_as_laravel_does(sandbox: Sandbox, change: Any, key: str) -> None:
    answer = await sandbox.sellapp("POST", "", json={**CART, **change})

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [key]
    assert answer.json()["message"] == answer.json()["errors"][key][0]


async def test_sellapp_opens_one_session_and_resumes_it(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]

    first = await sandbox.sellapp("POST", f"/{id}/checkout")
    again = await sandbox.sellapp("POST", f"/{id}/checkout", json={})

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["payment_url"] == again.json()["payment_url"] == f"{sandbox.url}/sellapp/pay/{id}"
    assert first.json()["message"] == "A new payment session has been generated."
    gateway = first.json()["invoice"]["payment"]["gateway"]
    assert gateway["data"]["checkout_url"] == first.json()["payment_url"]
    assert gateway["type"] == "STRIPE"


@pytest.mark.parametrize("word", ["COMPLETED", "PAID"])
async def test_sellapp_completes_a_free_invoice_instead_of_opening_a_session(sandbox: Sandbox, word: str) -> None:
    await sandbox.switch("sellapp", free_status=word)
    id = (await sandbox.sold(product_variants={"1000": {"quantity": 1}}))["id"]

    answer = await sandbox.sellapp("POST", f"/{id}/checkout")
    again = await sandbox.sellapp("POST", f"/{id}/checkout")

    assert answer.status_code == 200
    assert "payment_url" not in answer.json()
    assert answer.json()["invoice"]["status"]["status"]["status"] == word
    assert [state["status"] for state in answer.json()["invoice"]["status"]["history"]] == ["PENDING"]
    assert again.status_code == 422
    assert list(again.json()["errors"]) == ["invoice.checkout"]


async def test_sellapp_marks_only_pending_invoices_and_answers_them_bare(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]

    guarded = await sandbox.sellapp("PATCH", f"/{id}/mark-voided", json={"expected_status": "PAID"})
    voided = await sandbox.sellapp("PATCH", f"/{id}/mark-voided")
    again = await sandbox.sellapp("PATCH", f"/{id}/mark-completed", json={})

    assert (guarded.status_code, voided.status_code, again.status_code) == (422, 200, 422)
    assert (voided.json()["id"], voided.json()["status"]["status"]["status"]) == (id, "VOIDED")


async def test_sellapp_lists_pages_newest_first_with_filters(sandbox: Sandbox) -> None:
    ids = []
    for number in range(17):
        ids.append((await sandbox.sold(customer_email=f"a{number % 2}@example.org"))["id"])
        sandbox.clock.pass_time(seconds=1)
    await sandbox.settle("sellapp", ids[3], "paid", "none")

    first = (await sandbox.sellapp("GET", "")).json()
    second = (await sandbox.sellapp("GET", "?page=2")).json()
    mine = (await sandbox.sellapp("GET", "?email=a1@example.org&status[]=PENDING&status[]=PAID&sort=created_at")).json()
    sought = await sandbox.sellapp("POST", "/search?limit=2", json={"email": "a1@example.org", "status": ["COMPLETED"]})
    beyond = (await sandbox.sellapp("GET", "?page=9")).json()

    assert [row["id"] for row in first["data"] + second["data"]] == ids[::-1]
    assert len(first["data"]) == 15
    assert first["meta"] | {"links": []} == {
        "current_page": 1,
        "from": 1,
        "last_page": 2,
        "links": [],
        "path": f"{sandbox.url}/sellapp/api/v2/invoices",
        "per_page": 15,
        "to": 15,
        "total": 17,
    }
    assert second["links"]["next"] is None
    assert [row["id"] for row in mine["data"]] == [id for id in ids[1::2] if id != ids[3]]
    assert [row["id"] for row in sought.json()["data"]] == [ids[3]]
    assert (beyond["data"], beyond["meta"]["from"]) == ([], None)


async def test_sellapp_lists_nothing_as_one_empty_page(sandbox: Sandbox) -> None:
    meta = (await sandbox.sellapp("GET", "")).json()["meta"]

    assert (meta["current_page"], meta["last_page"], meta["total"]) == (1, 1, 0)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "page=0", "status=PAID"])
async def test_sellapp_refuses_a_query_that_means_nothing(sandbox: Sandbox, query: str) -> None:
    assert (await sandbox.sellapp("GET", f"?{query}")).status_code == 422


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({**SELLAPP, "X-STORE": "other"}, 403),
        ({"Authorization": SELLAPP["Authorization"]}, 200),
    ],
)
async def test_sellapp_knows_its_caller(sandbox: Sandbox, headers: dict[str, str], status: int) -> None:
    assert (await sandbox.sellapp("GET", "", headers=headers)).status_code == status


async def test_sellapp_answers_what_it_lacks_in_its_own_shape(sandbox: Sandbox) -> None:
    missing = await sandbox.sellapp("GET", "/4711")
    nowhere = await sandbox.sellapp("DELETE", "/4711")

    assert (missing.status_code, list(missing.json())) == (404, ["message"])
    assert (nowhere.status_code, list(nowhere.json())) == (405, ["message"])


@pytest.mark.parametrize(
    ("outcome", "word", "event"),
    [
        ("paid", "COMPLETED", "order.completed"),
        ("partial", "PARTIAL", "order.partial_paid"),
        ("failed", "FAILED", "order.failed"),
        ("canceled", "VOIDED", "order.voided"),
        ("refunded", "REFUNDED", "order.refunded"),
    ],
)
async def test_sellapp_tells_the_store_what_became_of_an_invoice(
    sandbox: Sandbox, outcome: str, word: str, event: str
) -> None:
    id = (await sandbox.sold())["id"]

    settled = await sandbox.settle("sellapp", id, outcome)

    assert settled == {"reference": str(id), "status": word, "notified": 1}
    [told] = sandbox.shop.told
    assert told.path == "/webhooks/sellapp"
    assert told.headers["signature"] == mac(WEBHOOK_SECRET, told.body, "sha256")
    assert (told.json["event"], told.json["store"]) == (event, 1)
    assert told.json["data"] == (await sandbox.sellapp("GET", f"/{id}")).json()["data"]
    assert told.json["data"]["status"]["status"]["status"] == word


async def test_an_expired_sellapp_invoice_stays_pending_and_nobody_is_told(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]

    settled = await sandbox.settle("sellapp", id, "expired")
    read = (await sandbox.sellapp("GET", f"/{id}")).json()["data"]
    checkout = await sandbox.sellapp("POST", f"/{id}/checkout")

    assert (settled["status"], settled["notified"], sandbox.shop.told) == ("PENDING", 0, [])
    assert read["status"]["status"]["status"] == "PENDING"
    assert read["payment"]["expires_at"] == "2026-11-22T07:59:59.000000Z"
    assert checkout.status_code == 422
    assert "expired" in (await sandbox.http.get(f"/sellapp/pay/{id}")).text


async def test_a_sellapp_invoice_expires_by_itself(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]
    sandbox.clock.pass_time(hours=25)

    assert (await sandbox.sellapp("POST", f"/{id}/checkout")).status_code == 422


async def test_sellapp_switches_what_is_only_inferred(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]
    await sandbox.switch("sellapp", paid_status="PAID", standard_webhooks=True, webhook_url=f"{sandbox.shop.url}/else")

    settled = await sandbox.settle("sellapp", id, "paid")

    [told] = sandbox.shop.told
    signed = f"{told.headers['webhook-id']}.{told.headers['webhook-timestamp']}.".encode() + told.body
    digest = hmac.new(WEBHOOK_SECRET.encode(), signed, hashlib.sha256).digest()
    assert (settled["status"], told.path, told.json["event"]) == ("PAID", "/else", "order.paid")
    assert told.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert told.headers["webhook-timestamp"] == str(int(sandbox.clock().timestamp()))


@pytest.mark.parametrize("switches", [{"webhook_url": None}, {"invented_events": False}])
async def test_sellapp_says_nothing_where_it_has_nothing_to_say(sandbox: Sandbox, switches: dict[str, Any]) -> None:
    id = (await sandbox.sold())["id"]
    await sandbox.switch("sellapp", **switches)

    assert (await sandbox.settle("sellapp", id, "refunded"))["notified"] == 0
    assert sandbox.shop.told == []


async def test_sellapp_ids_of_an_earlier_sandbox_do_not_come_again(sandbox: Sandbox) -> None:
    first = (await sandbox.sold())["id"]
    await sandbox.control("DELETE", "sellapp/state")

    assert (await sandbox.sold())["id"] > first > 1_700_000_000


# BlueTape


async def test_a_bluetape_invoice_goes_its_road(sandbox: Sandbox) -> None:
    created = await sandbox.bluetape("POST", "simplify", json=BOARDS)
    status = await sandbox.bluetape("GET", "inv-1001/status")
    checkout = await sandbox.bluetape("GET", "inv-1001/checkout")
    redirect = await sandbox.bluetape(
        "GET", "inv-1001/checkout-redirect", params={"redirectUrl": "https://shop.example"}
    )
    canceled = await sandbox.bluetape("PUT", "inv-1001/cancel")
    again = await sandbox.bluetape("PUT", "inv-1001/cancel", json={})

    assert (created.status_code, list(created.json())) == (201, ["blueTapeId"])
    assert (status.json()["invoiceId"], status.json()["status"]) == ("inv-1001", "Placed")
    assert status.json()["creditInfo"]["creditType"] == "LOC"
    assert checkout.json() == {"checkOutUrl": f"{sandbox.url}/bluetape/pay/inv-1001"}
    assert redirect.json() == f"{sandbox.url}/bluetape/pay/inv-1001"
    assert (canceled.status_code, canceled.json()) == (202, {})
    assert (again.status_code, again.json()) == (409, {"code": "409", "reason": "Invoice already canceled."})


async def test_bluetape_numbers_come_with_and_without_a_fraction(sandbox: Sandbox) -> None:
    await sandbox.switch("bluetape", create_answer="both", create_status=200)
    whole = await sandbox.bluetape("POST", "simplify", json=BOARDS)
    broken = json.dumps({**BOARDS, "id": "b", "totalAmount": 0}).replace('"totalAmount": 0', '"totalAmount": 49.90')
    await sandbox.bluetape("POST", "simplify", content=broken)

    texts = [(await sandbox.bluetape("GET", f"{id}/status")).text for id in ("inv-1001", "b")]

    assert whole.status_code == 200
    assert '"details":{"totalAmount":220}' in whole.text
    assert '"totalAmount":220.0}' in texts[0]
    assert '"pastDue30":0.0' in texts[0]
    assert '"limit":10000,' in texts[0]
    assert '"totalAmount":49.90}' in texts[1]


async def test_bluetape_refuses_a_second_invoice_of_the_same_id(sandbox: Sandbox) -> None:
    await sandbox.bluetape("POST", "simplify", json=BOARDS)

    again = await sandbox.bluetape("POST", "simplify", json=BOARDS)

    assert (again.status_code, again.json()["code"], type(again.json()["code"])) == (409, "409", str)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"totalAmount": "220"},
        {"totalAmount": True},
        {"totalAmount": 0},
        {"dueDate": "soon"},
        {"dueDate": None},
        {"payersInfo": []},
        {"payersInfo": [{"firstName": "A."}]},
    ],
)
async def test_bluetape_refuses_what_it_cannot_bill(sandbox: Sandbox, change: dict[str, Any]) -> None:
    answer = await sandbox.bluetape("POST", "simplify", json={**BOARDS, **change})

    assert (answer.status_code, answer.json()["code"]) == (400, "400")
    assert next(iter(change)) in answer.json()["reason"]


async def test_bluetape_words_a_missing_invoice_in_two_ways(sandbox: Sandbox) -> None:
    read = await sandbox.bluetape("GET", "nothing/status")
    canceled = await sandbox.bluetape("PUT", "nothing/cancel")

    assert read.json() == {"code": "404", "reason": "Invoice not found."}
    assert canceled.json() == {"code": "404", "reason": "Invoice not exists."}


@pytest.mark.parametrize("header", list(BLUETAPE))
async def test_bluetape_needs_both_headers(sandbox: Sandbox, header: str) -> None:
    headers = {name: value for name, value in BLUETAPE.items() if name != header}

    assert (await sandbox.bluetape("GET", "inv-1001/status", headers=headers)).status_code == 401


async def test_bluetape_takes_the_redirect_from_a_form_too_and_never_calls(sandbox: Sandbox) -> None:
    await sandbox.bluetape("POST", "simplify", json=BOARDS)
    form = {"redirectUrl": "https://shop.example/thanks?a=1"}
    url = (await sandbox.bluetape("GET", "inv-1001/checkout-redirect", data=form)).json()

    half = await sandbox.http.post(url, data={"outcome": "partial"})
    paid = await sandbox.http.post(url, data={"outcome": "paid"})

    assert half.status_code == 303
    assert (paid.status_code, paid.headers["location"]) == (303, "https://shop.example/thanks?a=1")
    assert (await sandbox.bluetape("GET", "inv-1001/status")).json()["status"] == "Paid"
    assert (await sandbox.settle("bluetape", "inv-1001", "canceled", "twice"))["notified"] == 0
    assert sandbox.shop.told == []


# TurinPay


async def test_a_turinpay_intent_becomes_an_invoice_when_its_page_is_opened(sandbox: Sandbox) -> None:
    asked = {"price": 23.5, "currency": "EUR", "orderId": "order-17", "notificationUrl": f"{sandbox.shop.url}/n"}
    intent = await sandbox.turinpay("POST", "/intents", json=asked)
    before = await sandbox.turinpay("GET", "/invoice")
    await sandbox.http.head(f"/turinpay/checkout/{intent.json()['checkoutId']}")
    still = await sandbox.turinpay("GET", "/invoice")
    page = await sandbox.http.get(f"/turinpay/checkout/{intent.json()['checkoutId']}")
    await sandbox.http.get(f"/turinpay/checkout/{intent.json()['checkoutId']}")
    [invoice] = (await sandbox.turinpay("GET", "/invoice")).json()
    one = await sandbox.turinpay("GET", f"/invoices/{invoice['id']}")

    assert intent.status_code == 201
    assert intent.json() | {"checkoutId": ""} == {
        "checkoutId": "",
        "orderId": "order-17",
        "price": 23.5,
        "currency": "EUR",
    }
    assert before.json() == still.json() == []
    assert page.status_code == 200
    assert one.json() == invoice
    assert re.fullmatch("[0-9a-f]{64}", invoice["id"])
    assert invoice["status"] == "PENDING"
    assert invoice["checkout"]["ln"].startswith("lnbc258500n1")
    assert invoice["checkout"]["btc"].startswith("bc1q")
    assert invoice["checkout"]["url"] == f"{sandbox.url}/turinpay/{invoice['id']}"
    assert (invoice["callbackUrl"], invoice["description"]) == (f"{sandbox.shop.url}/n", "order-17")
    assert invoice["createdAt"] == "2026-11-22T08:00:00.000Z"
    assert (await sandbox.http.get(invoice["checkout"]["url"])).status_code == 200


async def test_turinpay_tells_of_a_paid_invoice_unsigned(sandbox: Sandbox) -> None:
    id = await sandbox.intended(notificationUrl=f"{sandbox.shop.url}/n?token=t")

    settled = await sandbox.settle("turinpay", id, "paid")

    [told] = sandbox.shop.told
    [invoice] = (await sandbox.turinpay("GET", "/invoice")).json()
    assert settled == {"reference": id, "status": "CONFIRMED", "notified": 1}
    assert (invoice["status"], told.query) == ("CONFIRMED", {"token": "t"})
    assert told.json["invoice"]["_id"] == invoice["id"]
    assert told.json["invoice"]["invoiceDetail"]["status"] == "PAID"
    assert (told.json["payload"]["amount"], told.json["payload"]["currency"]) == (25300, "SAT")


async def test_turinpay_can_notify_with_the_invoice_alone_and_out_of_order(sandbox: Sandbox) -> None:
    await sandbox.switch("turinpay", notification="invoice")
    id = await sandbox.intended(notificationUrl=f"{sandbox.shop.url}/n?token=t")

    settled = await sandbox.settle("turinpay", id, "paid", "reordered")

    assert settled["notified"] == 2
    assert [told.json["status"] for told in sandbox.shop.told] == ["CONFIRMED", "PENDING"]


async def test_a_turinpay_invoice_is_settled_by_its_own_id_and_expires_silently(sandbox: Sandbox) -> None:
    id = await sandbox.intended(notificationUrl=f"{sandbox.shop.url}/n")
    await sandbox.http.get(f"/turinpay/checkout/{id}")
    [invoice] = (await sandbox.turinpay("GET", "/invoice")).json()

    settled = await sandbox.settle("turinpay", invoice["id"], "expired")

    assert settled == {"reference": invoice["id"], "status": "EXPIRED", "notified": 0}


@pytest.mark.parametrize("outcome", ["partial", "failed", "canceled", "refunded"])
async def test_turinpay_has_two_outcomes_only(sandbox: Sandbox, outcome: str) -> None:
    id = await sandbox.intended()

    answer = await sandbox.control("POST", "turinpay/settle", reference=id, outcome=outcome)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/outcome", "message": 'must be one of "paid", "expired"'}]


async def test_turinpay_leaves_lightning_out_above_its_limit(sandbox: Sandbox) -> None:
    for price in (3904, 3905):
        await sandbox.http.get(f"/turinpay/checkout/{await sandbox.intended(price)}")

    missing = (await sandbox.turinpay("GET", "/invoice")).json()
    await sandbox.switch("turinpay", ln_above_limit="null")
    null = (await sandbox.turinpay("GET", "/invoice")).json()

    assert ["ln" in invoice["checkout"] for invoice in missing] == [False, True]
    assert null[0]["checkout"]["ln"] is None


async def test_turinpay_wraps_where_it_is_switched_to(sandbox: Sandbox) -> None:
    await sandbox.switch("turinpay", wrapped=True, list_shape="data", create_status=200)

    intent = await sandbox.turinpay("POST", "/intents", json={"price": 1, "currency": "USD"})
    listed = await sandbox.turinpay("GET", "/invoice")

    assert (intent.status_code, list(intent.json())) == (200, ["data"])
    assert listed.json() == {"data": []}


@pytest.mark.parametrize(
    "change",
    [{"price": "23"}, {"price": 0}, {"price": True}, {"currency": "JPY"}, {"orderId": 17}, {"notificationUrl": "x"}],
)
async def test_turinpay_refuses_an_intent_without_a_sane_price(sandbox: Sandbox, change: dict[str, Any]) -> None:
    answer = await sandbox.turinpay("POST", "/intents", json={"price": 23, "currency": "EUR", **change})

    assert (answer.status_code, answer.json()["success"]) == (400, False)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/invoice", {}, 401),
        ("/invoice", {"X-API-Key": "wrong"}, 401),
        ("/invoices/x", {}, 404),
        ("/invoices/x", {"X-API-Key": "wrong"}, 401),
        ("/invoices/x", TURINPAY, 404),
    ],
)
async def test_turinpay_reads_one_invoice_without_a_key(
    sandbox: Sandbox, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await sandbox.turinpay("GET", path, headers=headers)

    assert (answer.status_code, answer.json()["success"]) == (status, False)


# The generic provider


async def test_a_generic_invoice_goes_its_road(sandbox: Sandbox) -> None:
    created = await sandbox.generic("POST", "", json={"asset": "EUR", "amount": "49.90", "externalOrderId": "order-17"})
    id = created.json()["data"]["id"]
    read = await sandbox.generic("GET", f"/{id}")

    assert created.status_code == 201
    assert created.json() == {"data": {"id": id, "paymentLink": f"{sandbox.url}/generic/pay/{id}"}}
    assert read.json()["data"] == {
        "id": id,
        "status": "CREATED",
        "addressId": None,
        "externalOrderId": "order-17",
        "paymentAmount": None,
        "invoiceAmount": "49.90",
        "invoiceAssetCode": "EUR",
        "paymentAssetCode": None,
        "expireAt": "2026-11-23T08:00:00.000Z",
        "completedAt": None,
        "createdAt": "2026-11-22T08:00:00.000Z",
        "creatorId": read.json()["data"]["creatorId"],
        "productCategory": None,
        "productDescription": None,
        "isCreatedByApi": True,
        "updatedAt": "2026-11-22T08:00:00.000Z",
        "transactions": [],
    }
    missing = await sandbox.generic("GET", "/c08db5ab-093f-4dd8-81c7-8065ffbbe955")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "NOT_FOUND")


def signed(path: str, body: bytes, *, nonce: str = "1700000000000", key: str = PRIVATE) -> dict[str, str]:
    signature = mac(key, path.encode() + nonce.encode() + body, "sha384")
    return {"public-key": "sandbox-generic-public", "nonce": nonce, "signature": signature}


def test_the_signature_is_the_one_of_the_test_vectors() -> None:
    body = b'{"asset":"EUR","amount":"1000"}'

    assert signed("/v1/invoice", body, key="example-private-key")["signature"] == (
        "d3d969961504866ac04614b67b27fec6c825d3623e8e86adbba54f2025084f8be9f6a5d5f0b66c8ae2281163efd34ea0"
    )
    assert signed("/v1/invoice?skip=0&take=10", b"{}", key="example-private-key")["signature"] == (
        "a125e9b0f1aba10e7a62e723add4bb1e2e59d8d0ef7f7daf9da1dd748da30f57f78f087a19a356deb4a96f18156db131"
    )


async def test_a_signed_create_is_believed_over_its_compact_body(sandbox: Sandbox) -> None:
    body = '{"asset":"EUR","amount":"1000","productDescription":"Bücher"}'.encode()

    compact = await sandbox.generic("POST", "", content=body, headers=signed("/v1/invoice", body))
    spaced = await sandbox.generic("POST", "", content=body + b"\n", headers=signed("/v1/invoice", body))
    other = await sandbox.generic("POST", "", content=body, headers=signed("/v1/invoice/", body))

    assert (compact.status_code, spaced.status_code, other.status_code) == (201, 201, 401)
    assert other.json()["errors"][0]["code"] == "UNAUTHORIZED"


async def test_a_signed_read_covers_the_query_and_an_empty_object(sandbox: Sandbox) -> None:
    path = "/v1/invoice?externalOrderId=a%20b&take=10"

    right = await sandbox.generic("GET", path[11:], headers=signed(path, b"{}"))
    wrong = [
        await sandbox.generic("GET", path[11:], headers=headers)
        for headers in (
            signed(path, b""),
            signed("/v1/invoice", b"{}"),
            signed(path, b"{}", key="wrong"),
            signed(path, b"{}", nonce="now"),
            {**signed(path, b"{}"), "public-key": "wrong"},
            {**signed(path, b"{}"), "signature": ""},
            {"api-key": "wrong"},
            {},
        )
    ]

    assert right.status_code == 200
    assert {answer.status_code for answer in wrong} == {401}


async def test_generic_lists_newest_first_in_pages_by_order(sandbox: Sandbox) -> None:
    ids = []
    for number in range(22):
        order = {"externalOrderId": f"order-{number % 2}", "asset": "USD" if number == 5 else "EUR"}
        ids.append((await sandbox.invoiced(**order))["id"])
        sandbox.clock.pass_time(minutes=1)
    await sandbox.settle("generic", ids[2], "paid", "none")

    async def listed(**query: str) -> list[str]:
        return [row["id"] for row in (await sandbox.generic("GET", "", params=query)).json()["data"]]

    assert await listed() == ids[:1:-1]
    assert await listed(take="3", skip="20") == ids[1::-1]
    assert await listed(externalOrderId="order-1", take="100") == ids[::-2]
    assert await listed(invoiceAssetCode="USD") == [ids[5]]
    assert await listed(paymentAssetCode="USDT") == [ids[2]]
    assert await listed(createdFrom="2026-11-22T08:20:00Z") == ids[:19:-1]
    assert await listed(createdTo="2026-11-22T08:01:00.000Z") == ids[1::-1]
    assert await listed(completedFrom="2026-11-22T08:00:00Z") == [ids[2]]
    assert (await listed(orderBy="completedAt"))[0] == ids[2]


@pytest.mark.parametrize("query", ["take=0", "take=101", "take=x", "skip=-1", "orderBy=amount", "createdFrom=then"])
async def test_generic_refuses_a_query_that_means_nothing(sandbox: Sandbox, query: str) -> None:
    answer = await sandbox.generic("GET", f"?{query}")

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "BAD_REQUEST")


async def test_generic_knows_its_assets_and_questions(sandbox: Sandbox) -> None:
    assets = (await sandbox.generic("GET", "/assets")).json()["data"]
    some = (await sandbox.generic("GET", "/assets?take=2&skip=1")).json()["data"]
    questions = (await sandbox.generic("GET", "/questionnaire")).json()["data"]

    assert [(asset["code"], asset["type"], asset["precision"]) for asset in assets] == [
        ("EUR", "fiat", 2),
        ("USD", "fiat", 2),
        ("UAH", "fiat", 2),
        ("USDT", "crypto", 6),
        ("BTC", "crypto", 8),
        ("ETH", "crypto", 18),
    ]
    assert some == assets[1:3]
    assert questions[:2] == [{"name": "email"}, {"name": "phone"}]


@pytest.mark.parametrize(
    "change",
    [
        {"asset": "XAU"},
        {"asset": ["EUR"]},
        {"amount": 49.9},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1e3"},
        {"amount": "0.001"},
        {"customization": {}},
        {"customization": {"redirectUrl": "http://["}},
        {"callbackUrl": "ftp://shop.example"},
        {"customization": {"redirectUrl": "https://shop.example", "redirectButtonTitle": 1}},
        {"questionnaire": {"schemaFields": [{"name": "shoe size"}]}},
        {"questionnaire": []},
        {"externalOrderId": 17},
        {"shouldSendTransactionalCallback": "yes"},
    ],
)
async def test_generic_refuses_what_it_cannot_invoice(sandbox: Sandbox, change: dict[str, Any]) -> None:
    answer = await sandbox.generic("POST", "", json={"asset": "EUR", "amount": "49.90", **change})

    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["code"] == "BAD_REQUEST"
    assert error["message"].startswith(next(iter(change)))


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        ("paid", "PAID"),
        ("partial", "PARTIALLY_PAID"),
        ("failed", "DECLINED"),
        ("expired", "TIMEOUT"),
        ("canceled", "DEACTIVATED"),
    ],
)
async def test_generic_calls_back_with_each_change(sandbox: Sandbox, outcome: str, word: str) -> None:
    id = (await sandbox.invoiced(callbackUrl=f"{sandbox.shop.url}/cb?token=t"))["id"]

    settled = await sandbox.settle("generic", id, outcome)

    [told] = sandbox.shop.told
    assert settled == {"reference": id, "status": word, "notified": 1}
    assert (told.path, told.query) == ("/cb", {"token": "t"})
    assert told.headers["kun-signature"] == mac(PRIVATE, told.body, "sha384")
    assert told.json == {"event": "Invoice", "data": (await sandbox.generic("GET", f"/{id}")).json()["data"]}
    assert told.json["data"]["status"] == word


async def test_generic_cannot_refund(sandbox: Sandbox) -> None:
    id = (await sandbox.invoiced())["id"]

    assert (await sandbox.control("POST", "generic/settle", reference=id, outcome="refunded")).status_code == 422


async def test_generic_calls_back_for_each_deposit_where_that_is_wanted(sandbox: Sandbox) -> None:
    asked = {"callbackUrl": f"{sandbox.shop.url}/cb", "shouldSendTransactionalCallback": True}
    id = (await sandbox.invoiced(**asked))["id"]

    half = await sandbox.settle("generic", id, "partial")
    rest = await sandbox.settle("generic", id, "paid")

    assert (half["notified"], rest["notified"]) == (2, 2)
    assert [told.json["event"] for told in sandbox.shop.told] == ["InvoiceDeposit", "Invoice"] * 2
    deposits = [told.json["data"] for told in sandbox.shop.told[::2]]
    assert [(deposit["type"], deposit["asset"], deposit["amount"]) for deposit in deposits] == [
        ("InvoiceDeposit", "USDT", "27.445000"),
        ("InvoiceDeposit", "USDT", "27.445000"),
    ]
    assert deposits[0]["invoiceId"] == id
    assert len(sandbox.shop.told[3].json["data"]["transactions"]) == 2


async def test_generic_calls_again_until_it_is_answered_with_200_but_not_with_what_is_forged(sandbox: Sandbox) -> None:
    ids = [(await sandbox.invoiced(callbackUrl=f"{sandbox.shop.url}/cb"))["id"] for _ in range(2)]
    sandbox.shop.statuses = [401, 204]
    started = time.monotonic()

    await sandbox.settle("generic", ids[0], "paid", "forged")
    await sandbox.settle("generic", ids[1], "paid")
    sandbox.shop.heard.clear()
    await asyncio.wait_for(sandbox.shop.heard.wait(), 5)

    assert 1.9 < time.monotonic() - started < 3
    _, first, second = sandbox.shop.told
    assert first.body == second.body


async def test_generic_gives_up_at_once_without_retries(sandbox: Sandbox) -> None:
    await sandbox.switch("generic", retries=0)
    id = (await sandbox.invoiced(callbackUrl="http://127.0.0.1:9/cb"))["id"]

    assert (await sandbox.settle("generic", id, "paid"))["notified"] == 1
    assert (await sandbox.generic("GET", f"/{id}")).json()["data"]["status"] == "PAID"


async def test_generic_switches_what_is_only_inferred(sandbox: Sandbox) -> None:
    await sandbox.switch("generic", create_status=200, wrapped=False, payment_link_in_get=True)

    created = await sandbox.generic("POST", "", json={"asset": "EUR", "amount": "1"})
    read = await sandbox.generic("GET", f"/{created.json()['id']}")

    assert created.status_code == 200
    assert read.json()["paymentLink"] == created.json()["paymentLink"]


# Settling


@pytest.mark.parametrize(
    ("notify", "words"),
    [("once", ["PAID"]), ("twice", ["PAID", "PAID"]), ("reordered", ["PAID", "CREATED"]), ("none", [])],
)
async def test_the_shop_is_told_as_asked(sandbox: Sandbox, notify: str, words: list[str]) -> None:
    id = (await sandbox.invoiced(callbackUrl=f"{sandbox.shop.url}/cb"))["id"]

    settled = await sandbox.settle("generic", id, "paid", notify)

    told = sandbox.shop.told
    assert [one.json["data"]["status"] for one in told] == words
    assert settled["notified"] == len(words)
    assert all(one.headers["kun-signature"] == mac(PRIVATE, one.body, "sha384") for one in told)
    assert notify != "twice" or told[0].body == told[1].body


async def test_a_forged_notification_has_a_wrong_signature_and_a_wrong_token(sandbox: Sandbox) -> None:
    sandbox.shop.statuses = [401, 401, 401]
    generic = (await sandbox.invoiced(callbackUrl=f"{sandbox.shop.url}/cb?token=t"))["id"]
    turinpay = await sandbox.intended(notificationUrl=f"{sandbox.shop.url}/n?token=t")
    sellapp = (await sandbox.sold())["id"]

    await sandbox.settle("generic", generic, "paid", "forged")
    await sandbox.settle("turinpay", turinpay, "paid", "forged")
    await sandbox.settle("sellapp", sellapp, "paid", "forged")

    first, second, third = sandbox.shop.told
    assert first.query == second.query == {"token": "forged"}
    assert first.headers["kun-signature"] != mac(PRIVATE, first.body, "sha384")
    assert third.headers["signature"] != mac(WEBHOOK_SECRET, third.body, "sha256")
    assert (await sandbox.sellapp("GET", f"/{sellapp}")).json()["data"]["status"]["status"]["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("sellapp", "PENDING REVERSED PARTIAL VOIDED REFUNDED PAID COMPLETED DISPUTING REVIEW FAILED"),
        ("bluetape", "Placed PartiallyPaid Paid Canceled Cancelled"),
        ("turinpay", "PENDING CONFIRMED PAID EXPIRED"),
        ("generic", "CREATED PAYMENT_AWAITING CONFIRMATION_AWAITING PAID PARTIALLY_PAID"),
        ("generic", "LIMITS_OUT_OF_RANGE TIMEOUT DEACTIVATED DECLINED"),
    ],
)
async def test_every_word_of_a_provider_can_be_said(sandbox: Sandbox, provider: str, words: str) -> None:
    await sandbox.bluetape("POST", "simplify", json=BOARDS)
    references = {
        "sellapp": (await sandbox.sold())["id"],
        "bluetape": "inv-1001",
        "turinpay": await sandbox.intended(),
        "generic": (await sandbox.invoiced())["id"],
    }

    said = [(await sandbox.say(provider, references[provider], word))["status"] for word in words.split()]

    assert said == words.split()


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"outcome": "paid"}, "/reference"),
        ({"reference": "x", "outcome": "lost"}, "/outcome"),
        ({"reference": "x"}, "/outcome"),
        ({"reference": "x", "outcome": "paid", "word": "PAID"}, "/outcome"),
        ({"reference": "x", "word": "Paid"}, "/word"),
        ({"reference": "x", "outcome": "paid", "notify": "loudly"}, "/notify"),
        ({"reference": "x", "outcome": "paid", "amount": "1"}, "/amount"),
    ],
)
async def test_a_settlement_that_makes_no_sense_is_refused(
    sandbox: Sandbox, said: dict[str, Any], pointer: str
) -> None:
    answer = await sandbox.control("POST", "generic/settle", **said)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_unknown_reference_is_not_found(sandbox: Sandbox, provider: str) -> None:
    answer = await sandbox.control("POST", f"{provider}/settle", reference="x", outcome="paid")

    assert answer.status_code == 404
    assert answer.json()["errors"][0]["pointer"] == "/reference"


async def test_a_settlement_stands_though_nobody_listens(sandbox: Sandbox) -> None:
    id = await sandbox.intended(notificationUrl="http://127.0.0.1:9/n")

    assert (await sandbox.settle("turinpay", id, "paid"))["status"] == "CONFIRMED"


# Faults


async def created(sandbox: Sandbox) -> list[dict[str, Any]]:
    """What a create left behind, read without the faults."""
    return (await sandbox.generic("GET", "")).json()["data"]


async def ask(sandbox: Sandbox, **more: Any) -> httpx.Response:
    return await sandbox.generic("POST", "", json={"asset": "EUR", "amount": "49.90"}, **more)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
async def test_a_status_comes_in_the_shape_of_the_provider(sandbox: Sandbox, provider: str, status: int) -> None:
    await sandbox.arm(provider, "get", f"status:{status}")
    calls = {"sellapp": sandbox.sellapp, "turinpay": sandbox.turinpay, "generic": sandbox.generic}
    paths = {"sellapp": "/1", "bluetape": "x/status", "turinpay": "/invoices/x", "generic": "/x"}

    answer = await calls.get(provider, sandbox.bluetape)("GET", paths[provider])

    shapes = {
        "sellapp": {"message"} | ({"errors"} if status == 422 else set()),
        "bluetape": {"code", "reason"},
        "turinpay": {"success", "message"},
        "generic": {"errors"},
    }
    assert (answer.status_code, set(answer.json())) == (status, shapes[provider])


async def test_a_redirect_leads_somewhere(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "status:302")

    assert (await ask(sandbox)).headers["location"] == "/"
    assert await created(sandbox) == []


@pytest.mark.parametrize(("fault", "done"), [("timeout", 0), ("timeout_after_accept", 1)])
async def test_nothing_is_ever_answered(sandbox: Sandbox, fault: str, done: int) -> None:
    await sandbox.arm("generic", "create", fault)

    with pytest.raises(httpx.ReadTimeout):
        await ask(sandbox, timeout=0.2)
    assert len(await created(sandbox)) == done
    assert (await sandbox.requests("generic"))[0]["status"] is None


async def test_a_late_accept_is_done_after_a_while(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "late_accept", seconds=0.4)

    with pytest.raises(httpx.ReadTimeout):
        await ask(sandbox, timeout=0.2)
    assert await created(sandbox) == []
    await asyncio.sleep(0.4)
    assert len(await created(sandbox)) == 1


@pytest.mark.parametrize(("fault", "done"), [("reset", 0), ("reset_after_accept", 1)])
async def test_a_connection_is_reset(sandbox: Sandbox, fault: str, done: int) -> None:
    await sandbox.arm("generic", "create", fault)

    with pytest.raises(httpx.ReadError):  # an orderly end would be a RemoteProtocolError
        await ask(sandbox)
    assert len(await created(sandbox)) == done
    assert (await sandbox.requests("generic"))[0]["status"] is None


@pytest.mark.parametrize("fault", ["slow", "drip"])
async def test_an_answer_takes_its_time(sandbox: Sandbox, fault: str) -> None:
    await sandbox.arm("generic", "create", fault, seconds=0.4)
    started = time.monotonic()

    answer = await ask(sandbox)

    assert 0.4 <= time.monotonic() - started < 2
    assert (answer.status_code, list(answer.json())) == (201, ["data"])


async def test_a_dripping_answer_comes_a_byte_at_a_time(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "questionnaire", "drip", seconds=0.5)

    async with sandbox.http.stream("GET", "/generic/v1/invoice/questionnaire", headers=GENERIC) as answer:
        parts = [part async for part in answer.aiter_raw()]

    assert max(map(len, parts)) < 10
    assert json.loads(b"".join(parts))["data"][0] == {"name": "email"}


async def test_garbage_is_a_200_that_is_not_json(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "garbage")

    answer = await ask(sandbox)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()
    assert len(await created(sandbox)) == 1


async def test_html_is_the_page_of_a_proxy(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "html")

    answer = await ask(sandbox)

    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert await created(sandbox) == []


async def test_a_truncated_answer_breaks_off(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "truncated")

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await ask(sandbox)
    assert len(await created(sandbox)) == 1


async def test_an_empty_answer_has_the_right_status(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "empty")

    answer = await ask(sandbox)

    assert (answer.status_code, answer.content) == (201, b"")
    assert len(await created(sandbox)) == 1


async def test_a_huge_answer_streams_fifty_megabytes(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "huge")
    body, size, tail = {"asset": "EUR", "amount": "1"}, 0, b""

    async with sandbox.http.stream("POST", "/generic/v1/invoice", json=body, headers=GENERIC) as answer:
        async for part in answer.aiter_raw():
            size += len(part)
            tail = (tail + part)[-500:]

    assert (answer.status_code, size >= 50 * 1024 * 1024) == (201, True)
    assert list(json.loads(tail.strip())) == ["data"]


async def test_a_huge_answer_may_be_left(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "questionnaire", "huge")

    async with sandbox.http.stream("GET", "/generic/v1/invoice/questionnaire", headers=GENERIC):
        pass

    assert (await sandbox.generic("GET", "/questionnaire")).status_code == 200


async def test_a_wrong_amount_is_in_one_answer_only(sandbox: Sandbox) -> None:
    await sandbox.bluetape("POST", "simplify", json=BOARDS)
    await sandbox.arm("sellapp", "create", "wrong_amount")
    await sandbox.arm("bluetape", "get", "wrong_amount")
    await sandbox.arm("turinpay", "create", "wrong_amount")

    created = await sandbox.sold()
    read = (await sandbox.sellapp("GET", f"/{created['id']}")).json()["data"]
    totals = [(await sandbox.bluetape("GET", "inv-1001/status")).json()["totalAmount"] for _ in range(2)]
    intent = await sandbox.turinpay("POST", "/intents", json={"price": 23, "currency": "EUR"})

    assert created["payment"]["full_price"]["total"]["inclusive"] == "3999"
    assert read["payment"]["full_price"]["total"]["inclusive"] == "3998"
    assert totals == [221, 220]
    assert intent.json()["price"] == 24


async def test_a_wrong_amount_that_a_create_does_not_show_is_in_the_next_read(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "wrong_amount")
    id = (await sandbox.invoiced())["id"]

    amounts = [(await sandbox.generic("GET", f"/{id}")).json()["data"]["invoiceAmount"] for _ in range(2)]

    assert amounts == ["50.90", "49.90"]


async def test_a_refused_create_leaves_no_wrong_amount_behind(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "wrong_amount")

    await sandbox.generic("POST", "", json={})

    assert (await sandbox.control("GET", "generic/faults")).json() == {"data": []}


@pytest.mark.parametrize("operation", ["create", "get", "list"])
async def test_an_unknown_status_is_none_of_the_providers(sandbox: Sandbox, operation: str) -> None:
    id = (await sandbox.sold())["id"]
    await sandbox.arm("sellapp", operation, "unknown_status")

    answers = {
        "create": lambda: sandbox.sellapp("POST", "", json=CART),
        "get": lambda: sandbox.sellapp("GET", f"/{id}"),
        "list": lambda: sandbox.sellapp("GET", ""),
    }
    first, second = [(await answers[operation]()).json()["data"] for _ in range(2)]

    shown = [answer[-1] if operation == "list" else answer for answer in (first, second)]
    assert [answer["status"]["status"]["status"] for answer in shown] == ["SOMETHING_NEW", "PENDING"]


async def test_extra_fields_are_everywhere_and_change_nothing_else(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]
    await sandbox.arm("sellapp", "get", "extra_fields")

    wide, plain = [(await sandbox.sellapp("GET", f"/{id}")).json() for _ in range(2)]

    assert "somethingNew" in wide
    assert "somethingNew" in wide["data"]["payment"]["full_price"]
    assert without(wide, "somethingNew") == plain


def without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items() if key != name}
    return [without(item, name) for item in value] if isinstance(value, list) else value


async def test_retry_after_says_when_and_does_nothing(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "retry_after", seconds=7)

    answer = await ask(sandbox)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert await created(sandbox) == []


async def test_faults_of_an_operation_are_used_in_order_and_as_often_as_asked(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "status:500", times=2)
    await sandbox.arm("generic", "list", "status:502")
    await sandbox.arm("generic", "create", "status:503")
    await sandbox.arm("generic", "checkout", "timeout")

    first = (await ask(sandbox)).status_code
    left = (await sandbox.control("GET", "generic/faults")).json()["data"]
    rest = [(await ask(sandbox)).status_code for _ in range(3)]

    assert [first, *rest] == [500, 500, 503, 201]
    assert left == [
        {"operation": "create", "fault": "status:500", "times": 1, "seconds": 5},
        {"operation": "list", "fault": "status:502", "times": 1, "seconds": 5},
        {"operation": "create", "fault": "status:503", "times": 1, "seconds": 5},
        {"operation": "checkout", "fault": "timeout", "times": 1, "seconds": 5},
    ]


async def test_faults_can_be_cleared_and_befall_one_provider(sandbox: Sandbox) -> None:
    await sandbox.arm("sellapp", "create", "status:500")
    await sandbox.arm("generic", "create", "status:500")

    await sandbox.control("DELETE", "generic/faults")

    assert (await ask(sandbox)).status_code == 201
    assert (await sandbox.sellapp("POST", "", json=CART)).status_code == 500


async def test_cancel_and_checkout_can_go_wrong_too(sandbox: Sandbox) -> None:
    id = (await sandbox.sold())["id"]
    await sandbox.arm("sellapp", "checkout", "status:500")
    await sandbox.arm("sellapp", "cancel", "status:503")

    assert (await sandbox.sellapp("POST", f"/{id}/checkout")).status_code == 500
    assert (await sandbox.sellapp("PATCH", f"/{id}/mark-voided")).status_code == 503


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"operation": "create", "fault": "explode"}, "/fault"),
        ({"operation": "create", "fault": "status:99"}, "/fault"),
        ({"operation": "create", "fault": "status:"}, "/fault"),
        ({"operation": "create", "fault": ["reset"]}, "/fault"),
        ({"operation": "destroy", "fault": "reset"}, "/operation"),
        ({"fault": "reset"}, "/operation"),
        ({"operation": "create", "fault": "reset", "times": 0}, "/times"),
        ({"operation": "create", "fault": "reset", "times": True}, "/times"),
        ({"operation": "create", "fault": "reset", "times": 1.5}, "/times"),
        ({"operation": "create", "fault": "slow", "seconds": -1}, "/seconds"),
        ({"operation": "create", "fault": "slow", "second": 1}, "/second"),
    ],
)
async def test_a_bad_fault_arms_nothing(sandbox: Sandbox, said: dict[str, Any], pointer: str) -> None:
    answer = await sandbox.control("POST", "generic/faults", **said)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert (await sandbox.control("GET", "generic/faults")).json() == {"data": []}


@pytest.mark.parametrize("body", ["", "{", "[]", "NaN", "[" * 100_000])
async def test_a_control_call_must_be_an_object(sandbox: Sandbox, body: str) -> None:
    answer = await sandbox.http.post("/_control/generic/faults", content=body)

    assert answer.status_code == 422
    assert answer.json() == {"errors": [{"pointer": "", "message": "must be a JSON object"}]}


async def test_a_fault_that_breaks_connections_says_what_it_needs() -> None:
    app = create_sandbox("http://sandbox.test")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox.test") as http:
        await http.post("/_control/generic/faults", json={"operation": "list", "fault": "reset"})
        with pytest.raises(RuntimeError, match="SandboxProtocol"):
            await http.get("/generic/v1/invoice", headers=GENERIC)


async def test_the_sandbox_stops_at_once_though_a_caller_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_sandbox(address(listener))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", http=SandboxProtocol))
        running = asyncio.create_task(server.serve([listener]))
        async with client(base_url=address(listener)) as http:
            await http.post("/_control/generic/faults", json={"operation": "list", "fault": "timeout"})
            waiting = asyncio.create_task(http.get("/generic/v1/invoice", headers=GENERIC))
            await asyncio.sleep(0.2)
            server.should_exit = True
            await asyncio.wait_for(running, 2)
            with pytest.raises(httpx.HTTPError):
                await waiting


# Log, switches, state


async def test_every_request_is_logged_oldest_first(sandbox: Sandbox) -> None:
    await sandbox.generic("POST", "?a=1", json={"asset": "EUR", "amount": "49.90"}, headers={**GENERIC, "X-Odd": "A b"})
    await sandbox.generic("GET", "/x", headers={})
    await sandbox.generic("POST", "/x/y", content=b"\xff{")

    first, second, third = await sandbox.requests("generic")

    assert {name: first[name] for name in ("at", "method", "path", "query", "body", "status")} == {
        "at": "2026-11-22T08:00:00.000Z",
        "method": "POST",
        "path": "/generic/v1/invoice",
        "query": "a=1",
        "body": {"asset": "EUR", "amount": "49.90"},
        "status": 201,
    }
    assert (first["headers"]["x-odd"], first["headers"]["api-key"]) == ("A b", "sandbox-generic-key")
    assert (second["status"], second["body"]) == (401, None)
    assert (third["status"], third["body"]) == (404, "\ufffd{")
    assert await sandbox.requests("sellapp") == []


async def test_the_log_shows_the_status_that_a_fault_answered(sandbox: Sandbox) -> None:
    await sandbox.arm("generic", "create", "status:503")
    await ask(sandbox)

    assert [request["status"] for request in await sandbox.requests("generic")] == [503]


async def test_the_log_can_be_forgotten(sandbox: Sandbox) -> None:
    await created(sandbox)

    forgotten = await sandbox.control("DELETE", "generic/requests")

    assert (forgotten.status_code, await sandbox.requests("generic")) == (204, [])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_forgetting_the_state_forgets_everything(sandbox: Sandbox, provider: str) -> None:
    await sandbox.bluetape("POST", "simplify", json=BOARDS)
    references = {
        "sellapp": (await sandbox.sold())["id"],
        "bluetape": "inv-1001",
        "turinpay": await sandbox.intended(),
        "generic": (await sandbox.invoiced())["id"],
    }
    await sandbox.arm(provider, "list", "reset")
    switches = (await sandbox.control("GET", f"{provider}/switches")).json()
    changed: dict[str, dict[str, Any]] = {
        "sellapp": {"paid_status": "PAID"},
        "bluetape": {"duplicate": 400},
        "turinpay": {"wrapped": True},
        "generic": {"retries": 3},
    }
    await sandbox.switch(provider, **changed[provider])

    answer = await sandbox.control("DELETE", f"{provider}/state")

    assert answer.status_code == 204
    assert await sandbox.requests(provider) == []
    assert (await sandbox.control("GET", f"{provider}/faults")).json() == {"data": []}
    assert (await sandbox.control("GET", f"{provider}/switches")).json() == switches
    said = {"reference": references[provider], "outcome": "paid"}
    assert (await sandbox.control("POST", f"{provider}/settle", **said)).status_code == 404


@pytest.mark.parametrize(
    ("provider", "switches", "pointer"),
    [
        ("sellapp", {"free_status": "DONE"}, "/free_status"),
        ("sellapp", {"webhook_url": 5}, "/webhook_url"),
        ("bluetape", {"create_answer": "all"}, "/create_answer"),
        ("turinpay", {"wrapped": 1}, "/wrapped"),
        ("generic", {"retries": 13}, "/retries"),
        ("generic", {"wrap": True}, "/wrap"),
    ],
)
async def test_a_bad_switch_changes_nothing(
    sandbox: Sandbox, provider: str, switches: dict[str, Any], pointer: str
) -> None:
    before = (await sandbox.control("GET", f"{provider}/switches")).json()

    answer = await sandbox.control("PUT", f"{provider}/switches", **switches)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert (await sandbox.control("GET", f"{provider}/switches")).json() == before


async def test_what_is_not_here_is_404_in_json(sandbox: Sandbox) -> None:
    answer = await sandbox.control("GET", "paypal/faults")

    assert (answer.status_code, list(answer.json())) == (404, ["errors"])


@pytest.mark.parametrize("body", [b"{", b"[]", b"NaN", b'"x"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_the_providers_400(sandbox: Sandbox, body: bytes) -> None:
    answers = [
        await sandbox.sellapp("POST", "", content=body),
        await sandbox.bluetape("POST", "simplify", content=body),
        await sandbox.turinpay("POST", "/intents", content=body),
        await sandbox.generic("POST", "", content=body),
    ]

    assert [answer.status_code for answer in answers] == [400] * 4


async def test_a_body_over_a_megabyte_is_refused(sandbox: Sandbox) -> None:
    assert (await sandbox.generic("POST", "", content=b" " * 1_100_000)).status_code == 413


# Pay pages


def buttons(page: httpx.Response) -> list[str]:
    return re.findall(r'<button name="outcome" value="(\w+)"', page.text)


async def test_each_page_has_the_buttons_that_its_provider_has(sandbox: Sandbox) -> None:
    await sandbox.bluetape("POST", "simplify", json=BOARDS)
    sellapp = await sandbox.http.get(f"/sellapp/pay/{(await sandbox.sold())['id']}")
    bluetape = await sandbox.http.get("/bluetape/pay/inv-1001")
    turinpay = await sandbox.http.get(f"/turinpay/checkout/{await sandbox.intended()}")
    generic = await sandbox.http.get((await sandbox.invoiced())["paymentLink"])

    assert buttons(sellapp) == ["paid", "partial", "failed", "expired"]
    assert buttons(bluetape) == ["paid", "partial"]
    assert buttons(turinpay) == ["paid", "expired"]
    assert buttons(generic) == ["paid", "partial", "failed", "expired"]
    assert "39.98 USD" in sellapp.text
    assert "220 USD" in bluetape.text
    assert "23 EUR" in turinpay.text
    assert "49.90 EUR" in generic.text


@pytest.mark.parametrize(
    ("redirect", "order", "location"),
    [
        ("https://shop.example/thanks", "order 17", "https://shop.example/thanks?invoiceId={id}&orderId=order+17"),
        ("https://shop.example/thanks?a=1#end", None, "https://shop.example/thanks?a=1&invoiceId={id}#end"),
    ],
)
async def test_a_paid_generic_invoice_leads_back_to_the_shop(
    sandbox: Sandbox, redirect: str, order: str | None, location: str
) -> None:
    custom = {"redirectUrl": redirect, "redirectButtonTitle": "To <the> shop"}
    more = {"externalOrderId": order, "callbackUrl": f"{sandbox.shop.url}/cb", "customization": custom}
    invoice = await sandbox.invoiced(**more)

    paid = await sandbox.http.post(invoice["paymentLink"], data={"outcome": "paid"})
    page = await sandbox.http.get(invoice["paymentLink"])

    assert (paid.status_code, paid.headers["location"]) == (303, location.format(id=invoice["id"]))
    assert [told.json["data"]["status"] for told in sandbox.shop.told] == ["PAID"]
    assert buttons(page) == []
    assert "Nothing is left to pay here: this invoice is PAID." in page.text
    assert "To &lt;the&gt; shop</a>" in page.text


@pytest.mark.parametrize(
    ("outcome", "word"), [("failed", "DECLINED"), ("expired", "TIMEOUT"), ("partial", "PARTIALLY_PAID")]
)
async def test_other_outcomes_stay_on_the_page(sandbox: Sandbox, outcome: str, word: str) -> None:
    invoice = await sandbox.invoiced(customization={"redirectUrl": "https://shop.example"})

    pressed = await sandbox.http.post(invoice["paymentLink"], data={"outcome": outcome})
    page = await sandbox.http.get(pressed.headers["location"])

    assert pressed.status_code == 303
    assert word in page.text
    assert bool(buttons(page)) == (outcome == "partial")


@pytest.mark.parametrize("provider", ["sellapp", "turinpay"])
async def test_providers_without_a_way_back_show_a_paid_page(sandbox: Sandbox, provider: str) -> None:
    id = (await sandbox.sold())["id"]
    paths = {"sellapp": f"/sellapp/pay/{id}", "turinpay": f"/turinpay/checkout/{await sandbox.intended()}"}

    pressed = await sandbox.http.post(paths[provider], data={"outcome": "paid"})
    page = await sandbox.http.get(pressed.headers["location"])

    assert pressed.headers["location"] == paths[provider]
    assert "Nothing is left to pay here" in page.text


@pytest.mark.parametrize("outcome", ["paid", "canceled", "nothing", ""])
async def test_a_settled_invoice_is_not_paid_again(sandbox: Sandbox, outcome: str) -> None:
    invoice = await sandbox.invoiced(callbackUrl=f"{sandbox.shop.url}/cb")
    await sandbox.settle("generic", invoice["id"], "canceled", "none")

    pressed = await sandbox.http.post(invoice["paymentLink"], data={"outcome": outcome})

    assert (pressed.status_code, sandbox.shop.told) == (409, [])
    assert "DEACTIVATED" in pressed.text


async def test_pages_escape_what_they_show(sandbox: Sandbox) -> None:
    evil = '"><script>alert(1)</script>'
    custom = {"redirectUrl": f"https://shop.example/{evil}", "redirectButtonTitle": evil}
    generic = await sandbox.invoiced(externalOrderId=evil, productDescription=evil, customization=custom)
    sellapp = (await sandbox.sold(customer_email=f"a@{evil}"))["id"]
    turinpay = await sandbox.intended(orderId=evil)
    await sandbox.bluetape("POST", "simplify", json={**BOARDS, "id": "i", "invoiceNumber": evil})
    await sandbox.bluetape("GET", "i/checkout-redirect", params={"redirectUrl": "javascript:alert(1)"})
    await sandbox.settle("generic", generic["id"], "paid", "none")
    await sandbox.settle("bluetape", "i", "paid", "none")

    paths = [generic["paymentLink"], f"/sellapp/pay/{sellapp}", f"/turinpay/checkout/{turinpay}", "/bluetape/pay/i"]
    pages = [await sandbox.http.get(path) for path in paths]

    assert all("&lt;script&gt;" in page.text and "<script" not in page.text for page in pages)
    assert not any("javascript:" in page.text for page in pages)
    assert all("default-src 'none'" in page.headers["content-security-policy"] for page in pages)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_page_of_nothing_is_404(sandbox: Sandbox, provider: str) -> None:
    page = await sandbox.http.get(f"/{provider}/{'checkout' if provider == 'turinpay' else 'pay'}/nothing")

    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
