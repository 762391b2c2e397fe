"""Whatever is sent, it is read in one way or refused by name; never does the reading itself fail."""

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyHttpUrl, ValidationError

from app.api.bodies import parse, validated
from app.api.schemas import NewInvoice, web_address
from app.domain.errors import InvalidRequest, NotStrictJson
from app.domain.money import Money

NAMES = st.sampled_from([*NewInvoice.model_fields, "email", "quantity", "unit_amount"]) | st.text(max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
WORDS = st.sampled_from(["49.90", "0", "1.", "EUR", "JPY", "BTC", "https://shop.example/", "a@b.example", "DE"])
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


TEXTS = st.text(alphabet='{}[]":,\\u019aeE.-+ntf\ud800 ', max_size=40).map(
    lambda text: text.encode(errors="surrogatepass")
)


@given(raw=TEXTS | st.binary(max_size=60))
def test_bytes_are_strict_json_or_refused(raw: bytes) -> None:
    with suppress(NotStrictJson):
        strict = parse(raw)
        assert strict == json.loads(raw)
        assert "\0" not in json.dumps(strict, ensure_ascii=False).encode().decode()


@given(sent=VALUES)
def test_any_document_is_right_or_has_faults(sent: Any) -> None:
    if not isinstance(sent, dict):
        with pytest.raises(InvalidRequest):
            validated(NewInvoice, sent)
        return
    new, faults = validated(NewInvoice, sent)
    draft = new.draft()
    assert (draft.amount is None) == (new.amount is None or new.currency is None)
    if not faults:
        assert new.model_dump(exclude_unset=True) == sent


AMOUNTS = st.text() | st.decimals().map(str) | st.from_regex(r"[0-9]{1,20}(\.[0-9]{0,20})?")


@given(amount=AMOUNTS, currency=st.sampled_from(["EUR", "JPY", "BTC", "ETH"]))
def test_an_amount_is_money_or_a_fault(amount: str, currency: str) -> None:
    new, faults = validated(NewInvoice, {"amount": amount, "currency": currency})
    if not faults:
        assert new.draft().amount == Money.parse(amount, currency)
    assert {fault.pointer for fault in faults} <= {"/amount"}


HOSTILE = st.text(alphabet="ab1x.:/\\@?#[]%0d \t\n{}é;&=-_", max_size=30)


@given(text=HOSTILE | HOSTILE.map(lambda rest: f"https://{rest}") | HOSTILE.map(lambda rest: f"http://a.example{rest}"))
def test_every_reader_sees_the_same_host_in_an_address(text: str) -> None:
    with suppress(ValueError):
        url = urlsplit(web_address(text))
        with suppress(httpx.InvalidURL):
            assert httpx.URL(text).host == url.hostname
            assert httpx.URL(text).userinfo == b""
        with suppress(ValidationError):
            assert str(AnyHttpUrl(text).host).strip("[]") == url.hostname
