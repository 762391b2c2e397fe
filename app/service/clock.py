"""Time, as something a service is given."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]

# Seconds that only ever rise, for deadlines and rests.
Ticks: TypeAlias = Callable[[], float]


def utc_now() -> datetime:
    return datetime.now(UTC)
