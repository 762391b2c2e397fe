"""What comes in: a provider's notification, as it is kept until it is settled."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedNotification:
    """`digest` tells it from others of its provider, `signed` that a signature held.

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
