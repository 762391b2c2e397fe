"""What every provider is: a frozen set of credentials and a dialect.

A provider does no I/O. Its operations are flows: generators that yield the Call they want sent and receive the Answer,
as httpx's own auth flows do. It cannot sleep, retry, forget a timeout or log a secret: it has nothing to do it with.
"""

import hmac
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, SecretStr

from app.domain.errors import Complaint, Fault, UnsupportedOperation
from app.domain.invoice import Customer, Deposit, Invoice, Item, Snapshot
from app.domain.money import Money

T = TypeVar("T")

ONE_ANSWER = 2 * 1024 * 1024
WHOLE_LIST = 32 * 1024 * 1024

# How far a provider's clock may be off.
CLOCK_SKEW = timedelta(seconds=60)

OPERATIONS: Mapping[str, str] = {
    "create": "create_invoice",
    "checkout": "start_checkout",
    "get": "fetch_invoice",
    "list": "list_invoices",
    "cancel": "cancel_invoice",
    "assets": "list_assets",
    "questionnaire": "list_questions",
}

Redirect = Literal["at_creation", "at_checkout", "none"]
Notices = Literal["signed", "token", "none"]
Recovery = Literal["by_reference", "by_search", "safe_to_repeat"]


def split(text: object) -> object:
    return [part.strip() for part in text.split(",")] if isinstance(text, str) else text


# An empty secret verifies anything, so none is. Two at once while one is being rotated.
Secret = Annotated[SecretStr, Field(min_length=1)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(split), Field(min_length=1, max_length=2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request that a flow wants sent.

    `path` is the template for logs and metrics (`/v2/invoices/{}`), `url` the whole address. A call `writes` unless it
    is a GET. `credentials` are the headers that are never shown. Statuses in `accepts` come back to the flow as an
    Answer like a 2xx; every other failure is named by the exchange. `cap` bounds the answer in bytes.
    """

    method: str
    url: str
    path: str
    headers: Mapping[str, str]
    credentials: Mapping[str, str] = field(repr=False)
    body: bytes | None = None
    writes: bool
    accepts: frozenset[int] = frozenset()
    cap: int = ONE_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: a status, headers in lower case, and the whole body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def read(self, shape: type[T]) -> T:
        """Decode the JSON body; ValueError where it is not that shape. Numbers become Decimal where it says so."""
        return msgspec.json.decode(self.body, type=shape)


Flow = Generator[Call, Answer, T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What we ask a provider to create. `id` is ours; `notification_url` is where it may tell us about this invoice."""

    id: str
    notification_url: str
    created_at: datetime
    amount: Money | None = None
    order_id: str | None = None
    description: str | None = None
    customer: Customer = Customer()
    items: Sequence[Item] = ()
    redirect_url: str | None = None
    redirect_button_title: str | None = None
    options: Any = None

    def may_be(self, seen: Snapshot) -> bool:
        """It was made no earlier than this, by clocks that need not agree, and for the same amount if one was asked."""
        late_enough = seen.created_at is None or seen.created_at >= self.created_at - CLOCK_SKEW
        return late_enough and (self.amount is None or seen.amount == self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What starting a checkout gave: the invoice as the provider sees it now, and its own words if it said any.

    Without a URL in the snapshot's checkout there is nothing to pay.
    """

    snapshot: Snapshot
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    code: str
    name: str
    type: Literal["fiat", "crypto"]
    precision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What a provider tells us, as a hint: which of its invoices to ask about, by its own id of it.

    `digest` is of what tells it from others, so that a repetition is known; `our_id` is ours of the invoice, where it
    is echoed. Nothing in it is believed before the provider has been asked, except a deposit whose notification was
    signed. One with no id and no deposit is not about an invoice.
    """

    digest: bytes
    reference: str | None = None
    our_id: str | None = None
    deposit: Deposit | None = None


class Options(BaseModel):
    """The provider_options a caller may send; each provider's own class says which."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Provider(BaseModel):
    """The fields of a provider are its settings; building one validates them.

    `name` is what callers call this account, `timeout` is in seconds for one whole operation. An operation that a
    provider lacks is not defined by its class; its sheet says so. `currencies` None means any that its assets name.
    `required` are the fields of a create that it cannot do without, for the sheet. `list_every` is the least number of
    seconds between two reads of its list. `refund_looks`: how long after its completion an invoice is looked at again.
    `links_end_with_id`: a checkout's address is told at creation only, and ends with the invoice's id there. `example`
    is a create that it accepts, for the documentation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    currencies: ClassVar[tuple[str, ...] | None] = None
    redirect: ClassVar[Redirect] = "none"
    create_recovery: ClassVar[Recovery]
    required: ClassVar[tuple[str, ...]] = ()
    list_every: ClassVar[int] = 0
    refund_looks: ClassVar[tuple[timedelta, ...]] = ()
    links_end_with_id: ClassVar[bool] = False
    example: ClassVar[Mapping[str, Any]] = {}
    Options: ClassVar[type[Options]] = Options

    name: str
    base_url: HttpUrl
    timeout: Annotated[float, Field(gt=0, le=120)] = 10
    clock: Callable[[], datetime] = Field(default=lambda: datetime.now(UTC), exclude=True, repr=False)

    @classmethod
    def kind(cls) -> str:
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def can(cls, operation: str) -> bool:
        """Whether the class defines it; `operation` is a key of OPERATIONS."""
        method = OPERATIONS[operation]
        return getattr(cls, method) is not getattr(Provider, method)

    def require(self, operation: str) -> None:
        """UnsupportedOperation where it can't."""
        if not self.can(operation):
            raise UnsupportedOperation(f"{self.name} has no operation {operation}; see its sheet.")

    @property
    def notices(self) -> Notices:
        """How its notifications are known to be its own."""
        return "none"

    def faults(self, order: Order) -> Iterable[Fault]:
        """Everything that this provider misses or cannot take in an order, before any call is made."""
        return ()

    def unsettled(self, invoice: Invoice) -> bool:
        """Whether it is still worth asking about when read."""
        return not invoice.finished

    def create_invoice(self, order: Order) -> Flow[Snapshot]:
        raise NotImplementedError

    def find_invoice(self, order: Order) -> Flow[Sequence[Snapshot]]:
        """What may have come of a create whose answer is missing: everything there that looks like the order."""
        raise NotImplementedError

    def start_checkout(self, invoice: Invoice, redirect_url: str | None) -> Flow[Started]:
        """Open the payment page, or resume it."""
        raise NotImplementedError

    def fetch_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        raise NotImplementedError

    def list_invoices(self) -> Flow[Sequence[Snapshot]]:
        """The newest page, newest first as far as the provider sorts."""
        raise NotImplementedError

    def cancel_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        raise NotImplementedError

    def list_assets(self) -> Flow[Sequence[Asset]]:
        """The currencies that it can invoice in."""
        raise NotImplementedError

    def list_questions(self) -> Flow[Sequence[str]]:
        """The names of what it can ask a buyer."""
        raise NotImplementedError

    def verify(self, headers: Mapping[str, str], body: bytes, at: datetime) -> bool:
        """Whether a notification that came at `at` bears its signature, of any secret that it signs with.

        The names of `headers` are in lower case; one that came more than once is joined with ", ". It never raises.
        """
        return False

    def read_notification(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """What one that has been proved says; ValueError where that can't be read. `headers` as in `verify`."""
        raise NotImplementedError

    def complaint(self, answer: Answer) -> Complaint:
        """What a failed answer says went wrong, in the provider's words; anything unreadable says nothing."""
        return Complaint(http_status=answer.status)

    def call(
        self,
        method: str,
        path: str,
        *values: str,
        query: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        json: Any = None,
        accepts: Iterable[int] = (),
        cap: int = ONE_ANSWER,
    ) -> Call:
        """A call to `path` under the base URL; each `{}` in it is filled with a value, quoted whole."""
        target = path.format(*(quote(value, safe="") for value in values))
        if query:
            target += "?" + urlencode(query)
        body = None if json is None else msgspec.json.encode(json)
        return Call(
            method=method,
            url=str(self.base_url).rstrip("/") + target,
            path=path,
            headers={"Accept": "application/json", **JSON_BODY[body is not None]},
            credentials=self.auth(method, target, body),
            body=body,
            writes=method != "GET",
            accepts=frozenset(accepts),
            cap=cap,
        )

    def auth(self, method: str, target: str, body: bytes | None) -> Mapping[str, str]:
        """The headers that say who we are; `target` is the path under the base URL with its query."""
        return {}


def decoded(body: bytes | msgspec.Raw, shape: type[T]) -> T:
    """JSON that anybody may have sent: ValueError where it is not that shape, not UTF-8 or nested too deep.

    No number is a float: one that the shape says nothing of becomes an int or a text.
    """
    try:
        return msgspec.json.Decoder(shape, float_hook=str).decode(bytes(body).decode())
    except RecursionError as error:
        raise ValueError("is nested too deep") from error


def is_digest(given: str, key: Secret, message: bytes, method: str) -> bool:
    """Whether this is the HMAC of a message in lower-case hexadecimal digits, compared in constant time."""
    expected = hmac.digest(key.get_secret_value().encode(), message, method).hex()
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


JSON_BODY: Mapping[bool, Mapping[str, str]] = {True: {"Content-Type": "application/json"}, False: {}}
