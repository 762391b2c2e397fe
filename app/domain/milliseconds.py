"""Moments as whole milliseconds since 1970, the form in which they are kept and compared."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_milliseconds(at: datetime) -> int:
    """What is finer than that is cut off."""
    return (at - EPOCH) // MILLISECOND


def from_milliseconds(count: int) -> datetime:
    return EPOCH + count * MILLISECOND
