"""Where a page of a list ended, as an opaque text that callers hand back."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from app.domain.invoice import ID, Invoice

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
PLACE = re.compile(rf"(0|[1-9][0-9]{{0,13}}) ({ID.pattern})", re.ASCII)


def cursor(last: Invoice) -> str:
    place = f"{(last.created_at - EPOCH) // MILLISECOND} {last.id}"
    return urlsafe_b64encode(place.encode()).rstrip(b"=").decode()


def position(text: str) -> tuple[datetime, str]:
    """The creation and the id of the page's last invoice; ValueError for what we never gave out."""
    try:
        place = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        raise ValueError("is not a cursor") from None
    found = PLACE.fullmatch(place)
    if found is None or urlsafe_b64encode(place.encode()).rstrip(b"=").decode() != text:
        raise ValueError("is not a cursor")
    return EPOCH + int(found[1]) * MILLISECOND, found[2]
