"""What comes in and what goes out: a provider's notification, and an event on its way to the merchant."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

State = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notification as it is kept: `digest` tells it from others of its provider, `signed` that a signature held.

    `invoice_id` is of the address that it came to, `reference` the provider's id in it; `position` is the store's.
    """

    provider: str
    digest: bytes
    received_at: datetime
    body: bytes
    signed: bool
    invoice_id: str | None = None
    reference: str | None = None
    position: int = 0
    tries: int = 0


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
