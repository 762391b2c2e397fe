"""What a caller asks to be created."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.invoice import Customer, Item
from app.domain.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """`options` are those of the named provider, or keyed by kind where none is named."""

    provider: str | None = None
    amount: Money | None = None
    order_id: str | None = None
    description: str | None = None
    customer: Customer | None = None
    items: tuple[Item, ...] = ()
    redirect_url: str | None = None
    redirect_button_title: str | None = None
    callback_url: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
