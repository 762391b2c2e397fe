"""Every recorded conversation in tests/cases, replayed against its kind of provider without I/O, at one moment.

A case names what is called and what comes of it. Responses are sent byte for byte as they stand in the file, and the
numbers of a request are compared as they are written: 49.90 is neither 49.9 nor "49.90".
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from pydantic import SecretStr, ValidationError

from app.domain.errors import Complaint, PaymentError, ProviderError, UnsupportedOperation
from app.domain.invoice import Checkout, Customer, Invoice, Item, Snapshot, Status
from app.domain.money import Money
from app.provider import ONE_ANSWER, OPERATIONS, Answer, Call, Order, Provider
from app.providers import build, kinds

T = TypeVar("T")

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
OURS = "inv_01h455vb4pex5vsknk084sn02q"
NAME = "shop"
CASES = sorted(Path(__file__).parent.glob("cases/*/*.json"))
# What the exchange takes for an answer that makes no sense.
SENSELESS = (LookupError, TypeError, ValueError, ArithmeticError)


class Request(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    url: str
    headers: dict[str, str] = {}
    json: msgspec.Raw = msgspec.Raw()
    cap: int = ONE_ANSWER


class Response(msgspec.Struct, forbid_unknown_fields=True):
    status: int
    json: msgspec.Raw = msgspec.Raw()
    text: str = ""

    def answer(self) -> Answer:
        return Answer(status=self.status, body=bytes(self.json) or self.text.encode())


class Turn(msgspec.Struct, forbid_unknown_fields=True):
    request: Request
    response: Response


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """`exchange` are the calls a flow makes; `answer` is a failed one that is complained of."""

    call: str
    outcome: Any
    now: datetime = NOW
    settings: dict[str, str] = {}
    order: dict[str, Any] = {}
    invoice: dict[str, Any] = {}
    redirect_url: str | None = None
    options: dict[str, Any] = {}
    exchange: list[Turn] = []
    answer: Response = msgspec.field(default_factory=lambda: Response(status=500))
    signed: dict[str, str] = {}


def read(path: Path) -> Case:
    return msgspec.json.decode(path.read_bytes(), type=Case)


def provider_for(kind: str, settings: Mapping[str, str], now: datetime = NOW) -> Provider:
    """An account with every setting that its kind demands, and those of the case."""
    fields = kinds()[kind].model_fields
    demanded = {name: f"test-{name.replace('_', '-')}" for name, field in fields.items() if field.is_required()}
    given = {**demanded, **settings, "kind": kind}
    given.pop("name")
    return build({NAME: given}, timeout=10, clock=lambda: now)[NAME]


def order_of(provider: Provider, given: Mapping[str, Any]) -> Order:
    told = dict(given)
    amount, customer, items = told.pop("amount", None), told.pop("customer", {}), told.pop("items", [])
    options = told.pop("options", {})
    return Order(
        id=OURS,
        notification_url=f"https://gw.example/webhooks/{NAME}/{OURS}?token=t0ken",
        created_at=NOW,
        amount=money(amount),
        customer=Customer(**customer),
        items=tuple(Item(**item) for item in items),
        options=None if options is None else provider.Options.model_validate(options),
        **told,
    )


def invoice_of(given: Mapping[str, Any]) -> Invoice:
    told = {"status": "pending", "reference": "ref-1", **given}
    checkout, expires_at = told.pop("checkout", None), told.pop("expires_at", None)
    return Invoice(
        id=OURS,
        provider=NAME,
        status=Status(told.pop("status")),
        created_at=NOW,
        updated_at=NOW,
        amount=money(told.pop("amount", None)),
        checkout=Checkout(**checkout) if checkout else None,
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
        **told,
    )


def money(text: str | None) -> Money | None:
    return Money.parse(*text.split()) if text else None


FLOWS: Mapping[str, Callable[[Provider, Case], Generator[Call, Answer, object]]] = {
    "create": lambda provider, case: provider.create_invoice(faultless(provider, case.order)),
    "checkout": lambda provider, case: provider.start_checkout(invoice_of(case.invoice), case.redirect_url),
    "get": lambda provider, case: provider.fetch_invoice(invoice_of(case.invoice)),
    "list": lambda provider, _: provider.list_invoices(),
    "cancel": lambda provider, case: provider.cancel_invoice(invoice_of(case.invoice)),
    "assets": lambda provider, _: provider.list_assets(),
    "questionnaire": lambda provider, _: provider.list_questions(),
}
JUDGEMENTS: Mapping[str, Callable[[Provider, Case], object]] = {
    "faults": lambda provider, case: faults_of(provider, order_of(provider, case.order)),
    "options": lambda provider, case: misfits(provider, case.options),
    "complaint": lambda provider, case: asdict(provider.complaint(case.answer.answer())),
    "unsettled": lambda provider, case: provider.unsettled(invoice_of(case.invoice)),
    "auth": lambda provider, case: provider.auth(
        case.signed["method"], case.signed["target"], case.signed.get("body", "").encode() or None
    ),
    "sheet": lambda provider, _: sheet(provider),
}


def outcome_of(provider: Provider, case: Case) -> object:
    if case.call in JUDGEMENTS:
        return JUDGEMENTS[case.call](provider, case)
    return plain(play(provider, FLOWS[case.call](provider, case), case.exchange))


def faultless(provider: Provider, given: Mapping[str, Any]) -> Order:
    order = order_of(provider, given)
    assert faults_of(provider, order) == {}
    return order


def faults_of(provider: Provider, order: Order) -> dict[str, str]:
    return {fault.pointer: fault.message for fault in provider.faults(order)}


def play(provider: Provider, flow: Generator[Call, Answer, T], exchange: list[Turn]) -> T:
    given: Answer | None = None
    for turn in exchange:
        call = flow.send(given)  # type: ignore[arg-type]  # None starts a generator
        check(provider, call, turn.request)
        assert turn.response.status // 100 == 2 or turn.response.status in call.accepts
        given = turn.response.answer()
    try:
        flow.send(given)  # type: ignore[arg-type]
    except StopIteration as done:
        result: T = done.value
        for snapshot in snapshots_in(result):
            assert snapshot.raw in (given.body if given else b""), "its raw words are not the provider's"
        return result
    raise AssertionError("the provider wants to send more than the case foresees")


def check(provider: Provider, call: Call, expected: Request) -> None:
    sent = {name.lower(): value for name, value in {**call.headers, **call.credentials}.items()}
    assert (call.method, call.url, call.cap) == (expected.method, expected.url, expected.cap)
    assert {name.lower(): value for name, value in expected.headers.items()}.items() <= sent.items()
    assert written(call.body) == written(bytes(expected.json) or None)
    assert ("content-type" in sent) == (call.body is not None)
    assert call.writes == (call.method != "GET")
    assert not [secret for secret in secrets_of(provider) if secret in repr(call)]


def written(body: bytes | None) -> Any:
    """A body in which every number is what was written, and no name comes twice."""
    if body is None:
        return None

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(
        body, parse_float=lambda text: ("number", text), parse_int=lambda text: ("number", text), object_pairs_hook=once
    )


def secrets_of(provider: Provider) -> list[str]:
    values = [getattr(provider, name) for name in type(provider).model_fields]
    flat = [value for held in values for value in (held if isinstance(held, tuple) else (held,))]
    return [value.get_secret_value() for value in flat if isinstance(value, SecretStr) and value.get_secret_value()]


def snapshots_in(result: object) -> list[Snapshot]:
    held = result if isinstance(result, list) else [getattr(result, "snapshot", result)]
    return [each for each in held if isinstance(each, Snapshot)]


def plain(value: Any) -> Any:
    """As JSON: what is None or empty is left out, and of raw words only that there are none is told."""
    if isinstance(value, Money):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, bytes):
        return False if not value else None
    if is_dataclass(value):
        told = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {name: each for name, each in told.items() if each not in (None, [])}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def misfits(provider: Provider, options: Mapping[str, Any]) -> list[str]:
    """Where the options are wrong; nothing that was given is repeated."""
    try:
        provider.Options.model_validate(options)
    except ValidationError as error:
        found = error.errors()
        assert not [each for each in found if any(str(given) in each["msg"] for given in options.values() if given)]
        return sorted("/".join(map(str, each["loc"])) for each in found)
    return []


def sheet(provider: Provider) -> Any:
    return {
        "operations": [name for name in OPERATIONS if provider.can(name)],
        "currencies": list(provider.currencies) if provider.currencies else None,
        "redirect": provider.redirect,
        "notices": provider.notices,
        "create_recovery": provider.create_recovery,
        "required": list(provider.required),
        "list_every": provider.list_every,
        "base_url": str(provider.base_url),
    }


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_conversation_goes_as_recorded(path: Path) -> None:
    case = read(path)
    provider = provider_for(path.parent.name, case.settings, case.now)
    try:
        outcome = outcome_of(provider, case)
    except ProviderError as error:
        outcome = [error.code, error.complaint.message]
    except PaymentError as error:
        outcome = error.code
    except SENSELESS:
        outcome = "unreadable"
    assert outcome == case.outcome


def cases_of(kind: str) -> list[Case]:
    return [read(path) for path in CASES if path.parent.name == kind]


@pytest.mark.parametrize("kind", kinds())
def test_every_operation_of_a_kind_has_a_case(kind: str) -> None:
    able = {operation for operation in OPERATIONS if kinds()[kind].can(operation)}
    assert {case.call for case in cases_of(kind)} >= able | {"faults", "complaint", "sheet"}


@pytest.mark.parametrize("kind", kinds())
def test_every_word_of_a_kind_has_a_case_and_so_has_one_that_nobody_knows(kind: str) -> None:
    seen = {
        (case.outcome.get("word"), case.outcome.get("status"))
        for case in cases_of(kind)
        if case.call == "get" and isinstance(case.outcome, dict)
    }
    table: Mapping[str, Status] = import_module(kinds()[kind].__module__).STATUSES
    assert seen >= {(word, str(status)) for word, status in table.items()}
    assert [word for word, status in seen if word is not None and status is None]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_a_kind_lacks_is_refused(kind: str, operation: str) -> None:
    provider = provider_for(kind, cases_of(kind)[0].settings)
    if provider.can(operation):
        provider.require(operation)
    else:
        with pytest.raises(UnsupportedOperation):
            provider.require(operation)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"<html>",
        b"null",
        b"[]",
        b"7",
        b'"no"',
        b'{"errors": 7, "message": [], "code": {}}',
        b"[" * 200_000,
    ],
    ids=lambda body: body[:12].decode(errors="replace"),
)
def test_a_failure_that_cannot_be_read_says_only_its_status(kind: str, body: bytes) -> None:
    provider = provider_for(kind, cases_of(kind)[0].settings)
    assert provider.complaint(Answer(status=502, body=body)) == Complaint(http_status=502)


@pytest.mark.parametrize("kind", kinds())
def test_a_long_complaint_is_cut(kind: str) -> None:
    said = next(case.answer.answer() for case in cases_of(kind) if case.call == "complaint" and case.outcome["message"])
    provider = provider_for(kind, cases_of(kind)[0].settings)
    message = provider.complaint(said).message or ""
    longer = Answer(status=400, body=said.body.replace(message.encode(), b"x" * 301))
    assert provider.complaint(longer).message == "x" * 300
