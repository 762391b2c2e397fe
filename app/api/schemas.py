"""What callers may send: every field, its form and its limits."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from app.domain.delivery import DELIVERY_ID
from app.domain.invoice import Customer, EventType, Item, Status
from app.domain.money import AMOUNT, Money, exponent
from app.service.cursors import read_feed_cursor, read_page_cursor
from app.service.draft import Draft
from app.service.views import DeliveryState

UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+")
PHONE = re.compile(r"\+?[0-9](?:[0-9 ()./-]{0,30})[0-9]", re.ASCII)
COUNTRY = re.compile(r"[A-Z]{2}")
CURRENCY = re.compile(r"[A-Z0-9]{2,10}")
NUMBER_LAST = re.compile(r"([^.]*\.)*(0[xX][0-9A-Fa-f]*|[0-9]+)\.?", re.ASCII)
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
URL_TEXT = re.compile(r"[!#-;=?-\[\]_a-z{}~]+", re.ASCII)
UNSENDABLE = re.compile("%0[0ad]", re.IGNORECASE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
WHOLE = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)

AMOUNT_FORM = 'must be a decimal string in major units such as "49.90"'


def plain(text: str) -> str:
    if UNSHOWN.search(text):
        raise ValueError("must have no control characters")
    return text


def decimal_text(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{AMOUNT_FORM}, not a JSON number")  # noqa: TRY004  # pydantic takes no other
    if isinstance(value, str) and not AMOUNT.fullmatch(value):
        raise ValueError(AMOUNT_FORM)
    return value


def email_address(text: str) -> str:
    if not EMAIL.fullmatch(text):
        raise ValueError("must be an e-mail address")
    return text


def phone_number(text: str) -> str:
    if not PHONE.fullmatch(text):
        raise ValueError("must be a phone number such as +49 30 1234567")
    return text


def country_code(text: str) -> str:
    if not COUNTRY.fullmatch(text):
        raise ValueError("must be a country's two capital letters (ISO 3166-1)")
    return text


def web_address(text: str) -> str:
    """An absolute http(s) URL that every reader takes apart in the same way."""
    if not URL_TEXT.fullmatch(text) or UNSENDABLE.search(text):
        raise ValueError("must have nothing but ASCII in it, without spaces, quotes, backslashes and line ends")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("must be an absolute URL with a valid host and port") from None
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise ValueError("must be an absolute URL that begins with https:// or http:// and a host")
    if "@" in parts.netloc or not HOST.fullmatch(parts.netloc.removesuffix(f":{port}")) or is_odd(host):
        raise ValueError("must have a plain host, without a user name")
    return text


def is_odd(host: str) -> bool:
    """An address in numbers that some readers take for another than it seems: 0x7f.1, 127.1, 2130706433."""
    if ":" not in host and not NUMBER_LAST.fullmatch(host):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def moment(text: str) -> datetime:
    if not MOMENT.fullmatch(text):
        raise ValueError("must be an RFC 3339 time with its offset, such as 2026-11-22T08:00:00Z (a + is written %2B)")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time that exists") from None


def whole(text: object) -> object:
    if not isinstance(text, str):
        return text
    if not WHOLE.fullmatch(text):
        raise ValueError("must be a whole number")
    return int(text)


def flag(text: object) -> object:
    if text not in ("true", "false", False):
        raise ValueError("must be true or false")
    return text in ("true", True)


def checked(reading: Callable[[str], object]) -> Callable[[str], str]:
    """The text, once it is certain that it can be read."""

    def check(text: str) -> str:
        reading(text)
        return text

    return check


def whole_text(form: re.Pattern[str]) -> dict[str, JsonValue]:
    """What tells the OpenAPI of a form."""
    return {"pattern": f"^{form.pattern}$"}


PLAIN: dict[str, JsonValue] = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]*$"}
Plain = AfterValidator(plain)
Name = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra=PLAIN), Plain]
Short = Annotated[str, Field(min_length=1, max_length=128, json_schema_extra=PLAIN), Plain]
Long = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra=PLAIN), Plain]
Title = Annotated[str, Field(min_length=1, max_length=100, json_schema_extra=PLAIN), Plain]
Key = Annotated[str, Field(min_length=1, max_length=40, json_schema_extra=PLAIN), Plain]
Value = Annotated[str, Field(max_length=500, json_schema_extra=PLAIN), Plain]
Decimals = Annotated[
    str, BeforeValidator(decimal_text), Field(json_schema_extra=whole_text(AMOUNT), examples=["49.90"])
]
Code = Annotated[str, Field(json_schema_extra=whole_text(CURRENCY), examples=["EUR"])]
Email = Annotated[
    str,
    Field(max_length=254, json_schema_extra=whole_text(EMAIL), examples=["a@example.org"]),
    Plain,
    AfterValidator(email_address),
]
Phone = Annotated[
    str,
    Field(max_length=32, json_schema_extra=whole_text(PHONE), examples=["+49 30 1234567"]),
    AfterValidator(phone_number),
]
Country = Annotated[str, Field(json_schema_extra=whole_text(COUNTRY), examples=["DE"]), AfterValidator(country_code)]
WebAddress = Annotated[str, Field(max_length=2048), AfterValidator(web_address)]
Moment = Annotated[
    datetime,
    BeforeValidator(moment, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Sent(BaseModel):
    """What comes in: nothing unknown, nothing converted. Where one of `together` is wrong, all of them are."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    together: ClassVar[frozenset[str]] = frozenset()


class NewCustomer(Sent):
    email: Email | None = None
    name: Name | None = None
    phone: Phone | None = None
    country: Country | None = None


class NewItem(Sent):
    description: Long | None = None
    quantity: Annotated[int, Field(ge=1, le=10_000)] = 1
    unit_amount: Decimals | None = None
    variant_id: Short | None = Field(
        None, description="The provider's own id of what is sold, where it sells by its own list"
    )


class NewInvoice(Sent):
    """What to create, and at which provider."""

    together = frozenset({"amount", "currency"})

    provider: Short | None = Field(None, description="May be left out where one provider is configured")
    amount: Decimals | None = Field(
        None, description="A decimal string in major units, never a number; with `currency`"
    )
    currency: Code | None = Field(None, validate_default=True, description="ISO 4217, or a crypto asset")
    order_id: Short | None = Field(None, description="The shop's own number")
    description: Long | None = None
    customer: NewCustomer | None = None
    items: Annotated[list[NewItem], Field(max_length=100)] = []
    redirect_url: WebAddress | None = Field(
        None, description="Where the shopper returns to; `{invoice_id}` and `{order_id}` in it are filled in"
    )
    redirect_button_title: Title | None = None
    callback_url: WebAddress | None = Field(None, description="Where events of this invoice are sent")
    metadata: Annotated[dict[Key, Value], Field(max_length=50, json_schema_extra={"additionalProperties": False})] = {}
    provider_options: dict[str, Any] = Field({}, description="What only this provider knows; see its own schema")

    @field_validator("currency")
    @classmethod
    def _money(cls, currency: str | None, info: ValidationInfo) -> str | None:
        """The currency, and the amount's scale in it, whatever else is wrong."""
        if currency is not None:
            payable(currency)
        if "amount" not in info.data:
            return currency
        amount = info.data["amount"]
        if (amount is None) != (currency is None):
            absent = "amount" if amount is None else "currency"
            raise blame(absent, "is required, since amount and currency come together")
        if amount is not None and currency is not None:
            settle(amount, currency)
        return currency

    def draft(self) -> Draft:
        return Draft(
            provider=self.provider,
            amount=Money.parse(self.amount, self.currency) if self.amount and self.currency else None,
            order_id=self.order_id,
            description=self.description,
            customer=Customer(**dict(self.customer)) if self.customer else None,
            items=tuple(Item(**dict(item)) for item in self.items),
            redirect_url=self.redirect_url,
            redirect_button_title=self.redirect_button_title,
            callback_url=self.callback_url,
            metadata=self.metadata,
            options=self.provider_options,
        )


class NewCheckout(Sent):
    """Where the shopper returns to, if not where the invoice says."""

    redirect_url: WebAddress | None = None
    redirect_button_title: Title | None = None


class NewResolution(Sent):
    """What an operator found out about an invoice in doubt: one of the two, and why."""

    reason: Long
    provider_invoice_id: Short | None = Field(None, description="It is this one there")
    not_created: Literal[True] | None = Field(
        None, validate_default=True, description="It is certain that the provider did not create it"
    )

    @field_validator("not_created")
    @classmethod
    def _either(cls, value: Literal[True] | None, info: ValidationInfo) -> Literal[True] | None:
        if (value is None) is (info.data.get("provider_invoice_id", "") is None):
            raise PydanticCustomError("either", "must be true, or provider_invoice_id must be given, and not both")
        return value


class NewReason(Sent):
    """Why an operator does it."""

    reason: Long


class Nothing(Sent):
    """No field, no parameter."""


Limit = Annotated[int, Field(ge=1, le=100), BeforeValidator(whole)]
Cursor = Annotated[str, Field(max_length=100, description="The `next_cursor` of the page before")]
Wait = Annotated[int, Field(ge=0, le=60, description="Seconds"), BeforeValidator(whole)]


class CreateQuery(Sent):
    dry_run: Annotated[bool, BeforeValidator(flag)] = Field(
        default=False, description="Show what would be sent, and send nothing (role admin)"
    )


class OneQuery(Sent):
    refresh: Literal["true", "false"] | None = Field(
        None, description="Insist on asking the provider, or forbid it; by default it is asked when that may tell more"
    )
    include: Literal["provider_data"] | None = Field(
        None, description="Add the provider's last raw answer (role admin)"
    )
    wait: Wait = Field(0, description="Seconds to hold the answer, until `version` is beyond `since` or it is finished")
    since: Annotated[int, Field(ge=0, le=999_999_999), BeforeValidator(whole)] | None = Field(
        None, description="The version that the caller knows; by default the current one"
    )


class ListQuery(Sent):
    provider: Short | None = None
    status: Annotated[Status, Field(strict=False)] | None = None
    order_id: Short | None = None
    provider_invoice_id: Name | None = None
    created_after: Moment | None = Field(None, description="RFC 3339, with its offset")
    created_before: Moment | None = Field(None, description="RFC 3339, with its offset")
    limit: Limit = 20
    cursor: Annotated[Cursor, AfterValidator(checked(read_page_cursor))] | None = None


class EventsQuery(Sent):
    limit: Limit = 20
    cursor: Annotated[Cursor, AfterValidator(checked(read_feed_cursor))] | None = None


class FeedQuery(EventsQuery):
    type: EventType | None = None
    invoice_id: Short | None = None
    wait: Wait = Field(0, description="Seconds to hold the answer until there is an event")


class DeliveriesQuery(Sent):
    state: DeliveryState | None = None
    invoice_id: Short | None = None
    limit: Limit = 20
    cursor: Annotated[Cursor, AfterValidator(checked(partial(read_page_cursor, ids=DELIVERY_ID)))] | None = None


def payable(currency: str) -> None:
    if not CURRENCY.fullmatch(currency):
        raise ValueError('must be a code in capital letters, such as "EUR"')
    if exponent(currency) is None:
        raise ValueError("is not a currency that can be invoiced")


def settle(amount: str, currency: str) -> None:
    try:
        Money.parse(amount, currency)
    except ValueError as error:
        raise blame("amount", str(error)) from None


def blame(field: str, message: str) -> PydanticCustomError:
    """A fault of another field than the one whose validator found it."""
    return PydanticCustomError("blamed", "{message}", {"message": message, "blames": (field,)})
