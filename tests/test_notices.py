"""What providers tell is proved by every form of it that a secret is held for, and read as the hint that it is."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.invoice import Deposit
from app.provider import Notification, Provider
from app.providers import build, kinds

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OLD, NEW, OTHER = "example-secret-of-last-year", "example-secret-of-this-year", "example-secret-of-a-stranger"
OURS = "inv_01jd0000000000000000000001"
UUID = "506c695a-4187-4463-ac41-07dc0782cb0e"
HASH = "0123456789abcdef" * 4

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "sellapp": {"api_key": "key", "store": "store"},
    "bluetape": {"api_key": "key", "account_id": "account"},
    "turinpay": {"api_key": "key"},
    "generic": {"api_key": "key"},
}
SECRETS: Mapping[str, Mapping[str, str]] = {
    "sellapp": {"webhook_secret": f"{OLD},{NEW}"},
    "generic": {"public_key": "public", "private_key": f"{OLD},{NEW}"},
}
TELLING = ["sellapp", "generic", "turinpay"]


def provider(kind: str, **settings: str) -> Provider:
    return build({kind: {**SETTINGS[kind], **settings}}, timeout=10, clock=lambda: NOW)[kind]


def hexed(method: str, secret: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), body, method).hex()


def stamped(secret: bytes, body: bytes, at: datetime = NOW, id: str = "evt_1") -> dict[str, str]:
    sent_at = str(int(at.timestamp()))
    mac = hmac.digest(secret, f"{id}.{sent_at}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": id, "webhook-timestamp": sent_at, "webhook-signature": signature}


@dataclass(frozen=True)
class Form:
    """One way to sign: `header` has the signature."""

    kind: str
    header: str

    @property
    def signed(self) -> Provider:
        return provider(self.kind, **SECRETS[self.kind])

    def headers(self, secret: str, body: bytes) -> dict[str, str]:
        if self.header == "webhook-signature":
            return stamped(secret.encode(), body)
        return {self.header: hexed("sha384" if self.kind == "generic" else "sha256", secret, body)}

    def holds(self, headers: Mapping[str, str], body: bytes) -> bool:
        return self.signed.verify(headers, body, NOW)


FORMS = {
    "plain": Form("sellapp", "signature"),
    "stamped": Form("sellapp", "webhook-signature"),
    "384": Form("generic", "kun-signature"),
}
BODY = b'{"event":"order.completed","data":{"id":4321},"store":1}'


@pytest.fixture(params=list(FORMS.values()), ids=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    found: Form = request.param
    return found


def test_a_signature_that_others_made_holds() -> None:
    shop = provider("generic", public_key="public", private_key="example-private-key")
    body = b'{"event":"InvoiceDeposit","data":{"id":"506c695a-4187-4463-ac41-07dc0782cb0e"}}'
    signature = "0ae25b51d3d91ed4d481d7e22175b1ca1ada789c72bd112509db1332ef48d0dc238cc095565008e94508814b150c3fba"
    assert shop.verify({"kun-signature": signature}, body, NOW)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_both_secrets_are_good_while_one_is_being_rotated(form: Form, secret: str) -> None:
    assert form.holds(form.headers(secret, BODY), BODY)


@pytest.mark.parametrize("secret", [OTHER, "", f"{OLD},{NEW}", OLD.upper()])
def test_no_other_secret_is(form: Form, secret: str) -> None:
    assert not form.holds(form.headers(secret, BODY), BODY)


def test_any_other_byte_of_the_body_breaks_it(form: Form) -> None:
    headers = form.headers(NEW, BODY)
    for place, byte in enumerate(BODY):
        assert not form.holds(headers, BODY[:place] + bytes([byte ^ 1]) + BODY[place + 1 :]), place


def test_a_shorter_or_longer_body_breaks_it(form: Form) -> None:
    headers = form.headers(NEW, BODY)
    assert not any(form.holds(headers, BODY[:length]) for length in range(len(BODY)))
    assert not form.holds(headers, BODY + b"}")


def test_any_other_character_of_a_header_breaks_it(form: Form) -> None:
    headers = form.headers(NEW, BODY)
    for name, text in headers.items():
        for place, character in enumerate(text):
            changed = text[:place] + chr(ord(character) ^ 1) + text[place + 1 :]
            assert not form.holds({**headers, name: changed}, BODY), (name, place)


def test_a_header_cut_short_or_missing_breaks_it(form: Form) -> None:
    headers = form.headers(NEW, BODY)
    for name, text in headers.items():
        assert not any(form.holds({**headers, name: text[:length]}, BODY) for length in range(len(text))), name
        assert not form.holds({**headers, name: ""}, BODY)
        assert not form.holds({other: value for other, value in headers.items() if other != name}, BODY)
    assert not form.holds({}, BODY)


def test_a_header_that_came_twice_breaks_it(form: Form) -> None:
    headers = form.headers(NEW, BODY)
    for name, text in headers.items():
        assert not form.holds({**headers, name: f"{text}, {text}"}, BODY), name


@pytest.mark.parametrize(
    "rubbish", ["é", "\udcff", "\0", "v1,", "v1,!!!", "v1,====", ",", " ", "0" * 64, "0" * 96, "f" * 10_000, "１" * 64]
)
def test_rubbish_for_a_signature_is_just_wrong(form: Form, rubbish: str) -> None:
    headers = form.headers(NEW, BODY)
    assert not form.holds({**headers, form.header: rubbish}, BODY)
    assert not form.holds({**headers, form.header: headers[form.header] + rubbish}, BODY) or rubbish == " "


@pytest.mark.parametrize("header", ["signature", "kun-signature"])
def test_hexadecimal_digits_are_in_lower_case(header: str) -> None:
    form = next(each for each in FORMS.values() if each.header == header)
    headers = form.headers(NEW, BODY)
    assert not form.holds({header: headers[header].upper()}, BODY)
    assert not form.holds({header: f" {headers[header]}"}, BODY)


def test_the_names_of_headers_are_in_lower_case(form: Form) -> None:
    assert not form.holds({name.title(): text for name, text in form.headers(NEW, BODY).items()}, BODY)


def test_a_body_may_be_anything_as_long_as_its_signature_holds(form: Form) -> None:
    large = json.dumps({"event": "order.paid", "data": {"id": 1}, "more": "x" * 2**20}).encode()
    deep = b"[" * 100_000
    for body in (b"", b"\xff\xfe", b"NaN", b'{"a":1,"a":2}', deep, large, b"[1e999999999]", b'"\\ud800"'):
        assert form.holds(form.headers(NEW, body), body)
        assert not form.holds(form.headers(OTHER, body), body)


def test_without_a_secret_nothing_holds(form: Form) -> None:
    bare = provider(form.kind)
    assert bare.notices == {"sellapp": "none", "generic": "token"}[form.kind]
    assert form.signed.notices == "signed"
    assert not any(bare.verify(form.headers(secret, BODY), BODY, NOW) for secret in (OLD, NEW, ""))


@pytest.mark.parametrize("kind", ["turinpay", "bluetape"])
def test_who_has_no_secret_signs_nothing(kind: str) -> None:
    bare = provider(kind)
    assert bare.notices == {"turinpay": "token", "bluetape": "none"}[kind]
    assert not any(
        bare.verify(form.headers(secret, BODY), BODY, NOW) for form in FORMS.values() for secret in (OLD, "")
    )


@pytest.mark.parametrize("kind", kinds())
def test_whoever_notifies_can_be_read(kind: str) -> None:
    cls = kinds()[kind]
    notifies = provider(kind, **SECRETS.get(kind, {})).notices != "none"
    assert notifies == (cls.read_notification is not Provider.read_notification)


class TestTwoForms:
    """One kind signs in two ways, of which the plain one decides."""

    shop = FORMS["plain"].signed
    plain = FORMS["plain"].headers(NEW, BODY)
    forged = FORMS["plain"].headers(OTHER, BODY)

    def test_the_plain_one_decides_where_it_is_there(self) -> None:
        good, bad = stamped(NEW.encode(), BODY), stamped(OTHER.encode(), BODY)
        assert self.shop.verify({**self.plain, **bad}, BODY, NOW)
        assert not self.shop.verify({**self.forged, **good}, BODY, NOW)
        assert not self.shop.verify({"signature": "", **good}, BODY, NOW)

    @pytest.mark.parametrize(("seconds", "holds"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
    def test_the_stamped_one_holds_for_five_minutes_either_way(self, seconds: int, holds: bool) -> None:
        headers = stamped(NEW.encode(), BODY, NOW + timedelta(seconds=seconds))
        assert self.shop.verify(headers, BODY, NOW) is holds

    def test_the_stamped_one_has_an_id(self) -> None:
        assert not self.shop.verify(stamped(NEW.encode(), BODY, id=""), BODY, NOW)

    def test_an_id_may_be_any_text(self) -> None:
        headers = {**stamped(NEW.encode(), BODY), "webhook-id": "\udcff"}
        assert not self.shop.verify(headers, BODY, NOW)
        assert self.shop.read_notification(headers, BODY).reference == "4321"

    def test_the_plain_one_has_no_time(self) -> None:
        assert self.shop.verify(self.plain, BODY, NOW + timedelta(days=365))

    @pytest.mark.parametrize(
        "text", ["", "now", "1e9", "-1", "+1", "1.0", "1_0", " 1", "１", "٢", "9" * 12, "9" * 5000]
    )
    def test_a_time_is_a_plain_number_of_seconds(self, text: str) -> None:
        at = datetime.fromtimestamp(1, UTC)
        mac = hmac.digest(NEW.encode(), f"evt_1.{text}.".encode() + BODY, "sha256")
        signature = f"v1,{base64.b64encode(mac).decode()}"
        headers = {"webhook-id": "evt_1", "webhook-timestamp": text, "webhook-signature": signature}
        assert not self.shop.verify(headers, BODY, at)
        assert self.shop.verify(stamped(NEW.encode(), BODY, at), BODY, at)

    def test_of_several_signatures_one_is_enough(self) -> None:
        headers, other = (stamped(secret.encode(), BODY) for secret in (NEW, OTHER))
        good, bad = headers["webhook-signature"], other["webhook-signature"]
        for several in (f"{bad} {good}", f"{good} {bad}", f"v1a,{good[3:]} {good}"):
            assert self.shop.verify({**headers, "webhook-signature": several}, BODY, NOW), several
        for none in (f"{bad} {bad}", f"v2,{good[3:]}", good[3:], f"v1 {good[3:]}", f"{bad},{good}", f"{bad}\t{good}"):
            assert not self.shop.verify({**headers, "webhook-signature": none}, BODY, NOW), none

    def test_the_secret_is_the_plain_bytes_of_its_text(self) -> None:
        key = b"0123456789abcdef0123456789abcdef"
        secret = base64.b64encode(key).decode()
        shop = provider("sellapp", webhook_secret=secret)
        assert shop.verify(stamped(secret.encode(), BODY), BODY, NOW)
        assert not shop.verify(stamped(key, BODY), BODY, NOW)

    def test_what_was_signed_tells_one_from_another(self) -> None:
        def digest(headers: Mapping[str, str], body: bytes = BODY) -> bytes:
            return self.shop.read_notification(headers, body).digest

        one, other = stamped(NEW.encode(), BODY, id="evt_1"), stamped(NEW.encode(), BODY, id="evt_2")
        again = stamped(NEW.encode(), BODY, NOW + timedelta(hours=1), id="evt_1")
        assert digest(one) == digest(again) != digest(other)
        assert digest({**self.plain, **one}) == digest({**self.plain, **other}) == digest(self.plain)
        assert digest(self.plain) != digest(self.plain, BODY + b" ")


class TestReserialised:
    """One kind may sign the JSON that it parsed, as its language writes it."""

    form = FORMS["384"]
    sent = b'{ "b" : 1.50,\n"a":[1e5, -0, 12345678901234567890.10, {}, []], "n": "\\u00e9\\/\\ud83d\\ude00\\n\\u001F" }'
    meant = '{"b":1.50,"a":[1e5,-0,12345678901234567890.10,{},[]],"n":"é/😀\\n\\u001f"}'.encode()

    def test_the_compact_form_holds_with_its_numbers_and_their_order(self) -> None:
        assert self.form.holds(self.form.headers(OLD, self.meant), self.sent)
        assert self.form.holds(self.form.headers(NEW, self.meant), self.sent)

    def test_so_does_the_body_as_it_was_sent(self) -> None:
        assert self.form.holds(self.form.headers(NEW, self.sent), self.sent)

    @pytest.mark.parametrize(
        ("was", "becomes"), [(b"1.50", b"1.5"), (b"-0", b"0"), (b"1e5", b"100000"), (b'"b"', b'"c"')]
    )
    def test_another_meaning_does_not(self, was: bytes, becomes: bytes) -> None:
        assert not self.form.holds(self.form.headers(NEW, self.meant), self.sent.replace(was, becomes))

    def test_only_a_short_body_is_written_anew(self) -> None:
        for size, holds in ((16 * 1024, True), (16 * 1024 + 1, False)):
            sent = self.sent.ljust(size)
            assert self.form.holds(self.form.headers(NEW, self.meant), sent) is holds
            assert self.form.holds(self.form.headers(NEW, sent), sent)

    @pytest.mark.parametrize("signature", ["", "0" * 95, "0" * 97, "A" * 96])
    def test_nothing_is_read_for_what_is_no_signature_at_all(self, signature: str) -> None:
        body = b"[%s{}]" % (b"{}," * 5000)
        assert self.seconds(signature, body) < self.seconds("0" * 96, body) / 5

    def seconds(self, signature: str, body: bytes) -> float:
        """The fastest of five, of which none holds."""
        signed, took = self.form.signed, []
        for _ in range(5):
            began = time.perf_counter()
            assert not signed.verify({"kun-signature": signature}, body, NOW)
            took.append(time.perf_counter() - began)
        return min(took)

    def test_the_compact_form_is_not_taken_for_what_was_sent(self) -> None:
        assert not self.form.holds(self.form.headers(NEW, self.sent), self.meant)


def test_an_event_about_an_invoice_names_it() -> None:
    shop = FORMS["plain"].signed
    for event in ("order.created", "order.paid", "order.completed", "order.of_the_future"):
        body = json.dumps({"event": event, "data": {"id": 4321, "more": [1.5]}, "store": 1, "version": 2}).encode()
        assert shop.read_notification({}, body) == Notification(digest=sha256(body).digest(), reference="4321")


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"feedback.created","data":{"id":4321}}',
        b'{"event":"product.updated","data":{}}',
        b'{"event":"charge.completed","data":{"id":"chg_1"}}',
        b'{"event":"","data":null}',
    ],
)
def test_an_event_about_something_else_is_not_about_an_invoice(body: bytes) -> None:
    assert FORMS["plain"].signed.read_notification({}, body) == Notification(digest=sha256(body).digest())


@pytest.mark.parametrize("id", ["1.0", "1e3", '"4321"', "null", "true", "[]", "9" * 5000])
def test_an_invoices_number_is_a_whole_number(id: str) -> None:
    with pytest.raises(ValueError, match=r"\$\.id"):
        FORMS["plain"].signed.read_notification({}, f'{{"event":"order.paid","data":{{"id":{id}}}}}'.encode())


def told(event: str, **content: Any) -> bytes:
    return json.dumps({"event": event, "data": content}).encode()


@pytest.mark.parametrize("event", ["Invoice", "InvoiceStatusChanged", "of the future"])
@pytest.mark.parametrize(("order", "ours"), [(OURS, OURS), ("order-17", None), (None, None), (f"{OURS}\n", None)])
def test_a_new_status_names_its_invoice_and_ours_where_that_is_echoed(event: str, order: Any, ours: str | None) -> None:
    body = told(event, id=UUID, externalOrderId=order, status="PAID")
    expected = Notification(digest=sha256(body).digest(), reference=UUID, our_id=ours)
    assert provider("generic").read_notification({}, body) == expected


def test_a_withdrawal_is_not_about_an_invoice() -> None:
    body = told("Withdraw", id=UUID, amount="1", asset="USDT")
    assert provider("generic").read_notification({}, body) == Notification(digest=sha256(body).digest())


@pytest.mark.parametrize("id", [17, 1.5, None, True, "", "a b", "a\0", "é", "a\n", "x" * 201, {}, []])
def test_an_id_can_be_kept_and_looked_for(id: Any) -> None:
    for body in (told("Invoice", id=id), told("InvoiceDeposit", id=id, amount="1", asset="USDT")):
        with pytest.raises(ValueError, match=r"\$\.id"):
            provider("generic").read_notification({}, body)


def test_an_event_about_an_invoice_without_an_id_cannot_be_read() -> None:
    for body in (told("Invoice"), told("InvoiceDeposit", amount="1", asset="USDT")):
        with pytest.raises(ValueError, match="`id`"):
            provider("generic").read_notification({}, body)
    with pytest.raises(ValueError, match="`id`"):
        FORMS["plain"].signed.read_notification({}, b'{"event":"order.paid","data":{}}')


@pytest.mark.parametrize(
    ("amount", "asset", "text"),
    [
        ('"0.0060"', "USDT", "0.006"),
        ('"20"', "EUR", "20.00"),
        ("0.1", "ETH", "0.1"),
        ("1e2", "BTC", "100"),
        ('"0.000000000000000001"', "ETH", "0.000000000000000001"),
        ('"123456789012345678.12"', "USDT", "123456789012345678.12"),
        ('"1.500"', "NEWCOIN", "1.5"),
    ],
)
def test_a_deposit_has_its_own_asset_and_exact_amount(amount: str, asset: str, text: str) -> None:
    data = f'{{"id":"tx-1","amount":{amount},"asset":"{asset}","invoiceId":"{UUID}","status":"Processed"}}'
    found = provider("generic").read_notification({}, f'{{"event":"InvoiceDeposit","data":{data}}}'.encode())
    assert found.deposit == Deposit(id="tx-1", amount=text, asset=asset)
    assert (found.reference, found.our_id) == (UUID, None)


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "-1",
        '"NaN"',
        '"-Infinity"',
        "1e999999999",
        '"1E-999999999"',
        "1e19",
        f'"1.{"1" * 40}"',
        '""',
        "null",
        "true",
    ],
)
def test_a_deposit_is_a_sum_of_money(amount: str) -> None:
    body = f'{{"event":"InvoiceDeposit","data":{{"id":"tx-1","amount":{amount},"asset":"USDT"}}}}'.encode()
    with pytest.raises(ValueError, match="amount"):
        provider("generic").read_notification({}, body)


@pytest.mark.parametrize("asset", ["", "US DT", "USDT\0", "x" * 21, None, 1])
def test_a_deposits_asset_is_a_code(asset: Any) -> None:
    with pytest.raises(ValueError, match=r"\$\.asset"):
        provider("generic").read_notification({}, told("InvoiceDeposit", id="tx-1", amount="1", asset=asset))


def test_a_deposit_is_the_same_however_it_is_told() -> None:
    def digest(id: str, **more: str) -> bytes:
        body = told("InvoiceDeposit", id=id, amount="1", asset="USDT", **more)
        return provider("generic").read_notification({}, body).digest

    assert digest("tx-1") == digest("tx-1", status="Processed") != digest("tx-2")
    assert digest("tx-1") != provider("generic").read_notification({}, told("Invoice", id="tx-1")).digest


@given(
    st.decimals(min_value="1e-18", max_value=10**18, allow_nan=False, places=10), st.sampled_from(["USDT", "EUR", "X"])
)
def test_no_deposit_is_rounded(amount: Decimal, asset: str) -> None:
    try:
        text = Deposit.of("tx-1", amount, asset).amount
    except ValueError:
        assert len(amount.normalize().as_tuple().digits) >= 28 or amount == 0 or amount.adjusted() > 18
    else:
        assert Decimal(text) == amount
        assert "E" not in text


@pytest.mark.parametrize(
    ("content", "reference", "ours"),
    [
        ({"payload": {"amount": 1112, "rate": 1.5}, "invoice": {"_id": HASH}}, HASH, None),
        ({"id": HASH, "callbackUrl": f"https://g.example/webhooks/turinpay/{OURS}?token=t"}, HASH, OURS),
        ({"id": HASH, "callbackUrl": f"https://g.example/webhooks/another/{OURS}"}, HASH, None),
        ({"invoice": {"_id": UUID}}, None, None),
        ({"id": HASH.upper()}, None, None),
        ({"id": f"{HASH}\n"}, None, None),
        ({"id": 17, "invoice": 17, "callbackUrl": 17}, None, None),
        ({"invoice": {"_id": 1.5}, "callbackUrl": None}, None, None),
        ({"invoice": [], "callbackUrl": []}, None, None),
        ({}, None, None),
    ],
)
def test_a_payment_is_named_only_by_what_can_be_read_back(
    content: Any, reference: str | None, ours: str | None
) -> None:
    body = json.dumps(content).encode()
    expected = Notification(digest=sha256(body).digest(), reference=reference, our_id=ours)
    assert provider("turinpay").read_notification({}, body) == expected


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
UNREADABLE = [
    b"",
    b"null",
    b"[]",
    b"1",
    b'"x"',
    b"{",
    b"{}}",
    b"{'a':1}",
    b'{"event":"order.paid","data":{"id":NaN}}',
    b'{"event":"Withdraw","data":Infinity}',
    b'{"event":"Withdraw","data":"\xff"}',
    b'\xef\xbb\xbf{"event":"Withdraw","data":{}}',
    '{"event":"Withdraw","data":{}}'.encode("utf-16"),
    b'{"event":"Withdraw","data":"\\ud800"}',
    DEEP,
    b'{"event":"Invoice","data":' + DEEP + b"}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("kind", TELLING)
@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body[:30]))
def test_what_is_no_json_object_cannot_be_read(kind: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        provider(kind).read_notification({}, body)


@pytest.mark.parametrize(
    ("kind", "ids"), [("sellapp", (1, 2)), ("generic", ("a", "b")), ("turinpay", (HASH[::-1], HASH))]
)
def test_a_body_may_name_a_field_twice_or_be_large(kind: str, ids: tuple[Any, Any]) -> None:
    twice = ",".join(f'"id":{json.dumps(id)}' for id in ids)
    body = f'{{"event":"x","event":"order.paid",{twice},"data":{{{twice}}},"more":"{"x" * 2**20}"}}'.encode()
    assert provider(kind).read_notification({}, body).reference == str(ids[1])


NAMES = ["signature", "kun-signature", "webhook-id", "webhook-timestamp", "webhook-signature", "other"]
TEXTS = st.text(st.characters(), max_size=100) | st.sampled_from(["v1,", "0" * 64, "0" * 96, "1767312000", "evt_1"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([UUID, HASH])
WORDS = ["event", "data", "id", "_id", "invoice", "invoiceId", "externalOrderId", "callbackUrl", "amount", "asset"]
EVENTS = ["order.paid", "Invoice", "InvoiceDeposit", "Withdraw"]
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(WORDS), below), max_leaves=10
)
BODIES = (
    st.binary(max_size=200)
    | TREES.map(lambda tree: json.dumps(tree).encode())
    | st.builds(lambda event, data: json.dumps({"event": event, "data": data}).encode(), st.sampled_from(EVENTS), TREES)
)


@pytest.mark.parametrize("kind", TELLING)
@given(headers=st.dictionaries(st.sampled_from(NAMES), TEXTS), body=BODIES)
def test_whatever_comes_is_refused_or_read_and_nothing_else(kind: str, headers: dict[str, str], body: bytes) -> None:
    shop = provider(kind, **SECRETS.get(kind, {}))
    assert shop.verify(headers, body, NOW) is False
    try:
        found = shop.read_notification(headers, body)
    except ValueError:
        return
    assert isinstance(found, Notification)
    assert len(found.digest) == 32
    assert all(text is None or text.isprintable() for text in (found.reference, found.our_id))
