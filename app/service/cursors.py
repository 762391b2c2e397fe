"""Where a page of a list ended, as an opaque text that callers hand back."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime

from app.domain.delivery import Delivery
from app.domain.invoice import ID, Invoice
from app.domain.milliseconds import from_milliseconds, to_milliseconds

PLACE = re.compile(r"(0|[1-9][0-9]{0,13}) (\S{1,60})", re.ASCII)
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def page_cursor(last: Invoice | Delivery) -> str:
    return sealed(f"{to_milliseconds(last.created_at)} {last.id}")


def read_page_cursor(text: str, ids: re.Pattern[str] = ID) -> tuple[datetime, str]:
    """The creation and the id of the page's last one; ValueError for what we never gave out."""
    found = PLACE.fullmatch(opened(text))
    if found is None or not ids.fullmatch(found[2]):
        raise ValueError("is not a cursor")
    return from_milliseconds(int(found[1])), found[2]


def feed_cursor(last: int) -> str:
    return sealed(str(last))


def read_feed_cursor(text: str) -> int:
    """How far the feed was read; ValueError for what we never gave out."""
    found = NUMBER.fullmatch(opened(text))
    if found is None:
        raise ValueError("is not a cursor")
    return int(found[0])


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
