"""Where a page of a list ended, as an opaque text that callers hand back."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from app.domain.delivery import Delivery
from app.domain.invoice import ID, Invoice

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
PLACE = re.compile(r"(0|[1-9][0-9]{0,13}) (\S{1,60})", re.ASCII)
DELIVERY_ID = re.compile(ID.pattern.replace("inv_", "dlv_"), re.ASCII)
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def cursor(last: Invoice | Delivery) -> str:
    return sealed(f"{(last.created_at - EPOCH) // MILLISECOND} {last.id}")


def position(text: str) -> tuple[datetime, str]:
    """The creation and the id of the page's last invoice; ValueError for what we never gave out."""
    return placed(text, ID)


def delivery_position(text: str) -> tuple[datetime, str]:
    """The same of a delivery."""
    return placed(text, DELIVERY_ID)


def count(last: int) -> str:
    return sealed(str(last))


def number(text: str) -> int:
    """How far the feed was read; ValueError for what we never gave out."""
    found = NUMBER.fullmatch(opened(text))
    if found is None:
        raise ValueError("is not a cursor")
    return int(found[0])


def placed(text: str, ids: re.Pattern[str]) -> tuple[datetime, str]:
    found = PLACE.fullmatch(opened(text))
    if found is None or not ids.fullmatch(found[2]):
        raise ValueError("is not a cursor")
    return EPOCH + int(found[1]) * MILLISECOND, found[2]


def sealed(place: str) -> str:
    return urlsafe_b64encode(place.encode()).rstrip(b"=").decode()


def opened(text: str) -> str:
    """What was sealed, and only just as it was sealed."""
    try:
        place = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        raise ValueError("is not a cursor") from None
    if sealed(place) != text:
        raise ValueError("is not a cursor")
    return place
