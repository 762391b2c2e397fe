"""What operators see and do: the steps in the life of an invoice, and the pauses of providers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`facts` depend on the kind: call, echo, operator; kept as JSON, and never with anything secret in it."""

    invoice_id: str
    at: datetime
    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """No creates and no checkouts at a provider, because somebody said so."""

    provider: str
    since: datetime
    by: str
    reason: str
