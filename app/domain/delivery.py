"""What goes out: an event on its way to the merchant, and what became of each attempt to tell it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.domain.invoice import id_pattern

DELIVERY_ID = id_pattern("dlv")

State = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """`status` is what the receiver answered, `error` why there is no answer; `ms` is how long it took."""

    at: datetime
    status: int | None
    error: str | None
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """`receiver` is the origin of `url`; `tries` are the attempts since it was put on its way.

    `due_at` is None once it has ended, and while it is in line behind an earlier one of its invoice. `paused`: it is
    pending, and its receiver has failed for so long that it is only probed.
    """

    id: str
    event_id: str
    type: str
    invoice_id: str
    url: str
    receiver: str
    state: State
    attempts: tuple[Attempt, ...]
    tries: int
    due_at: datetime | None
    created_at: datetime
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits, and since when the oldest of it."""

    count: int
    oldest: datetime | None
