"""What a shopper is told of an order, for every state of its invoice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.shop.orders import Order

Tone = Literal["waiting", "good", "bad", "doubtful"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`status` is the word of the API, or `none` where there is no invoice."""

    status: str
    tone: Tone
    title: str
    text: str


WORDS: Mapping[str, tuple[Tone, str, str]] = {
    "pending": ("waiting", "Waiting for your payment", "This page changes by itself as soon as it arrives."),
    "processing": ("waiting", "Your payment is being confirmed", "It has been seen; this can take a moment."),
    "partially_paid": ("waiting", "Partly paid", "A part has arrived. The rest is still to be paid."),
    "completed": ("good", "Paid", "Thank you! Nothing is left to pay."),
    "expired": ("bad", "Expired", "The time to pay ran out. Should your money still arrive, this page will say so."),
    "canceled": ("bad", "Canceled", "This order was canceled. There is nothing to pay."),
    "failed": ("bad", "Payment failed", "Your payment did not go through."),
    "refunded": ("doubtful", "Refunded", "Your money has been sent back."),
    "disputed": ("doubtful", "Paid, but disputed", "The payment arrived, and is being disputed at the provider."),
    "unknown": (
        "doubtful",
        "We don't know yet",
        "The provider has not told us whether it took this order. We keep asking; you will not be charged twice.",
    ),
}
PLACING: tuple[Tone, str, str] = ("waiting", "Placing your order", "The provider is being asked.")
UNHEARD: tuple[Tone, str, str] = ("doubtful", "In a state we don't know", "The payment service has a new word for it.")


def outlook(order: Order) -> Outlook:
    if order.invoice is not None:
        status = order.invoice.status
        tone, title, text = WORDS.get(status, UNHEARD)
        return Outlook(status=status, tone=tone, title=title, text=text)
    if order.trouble is not None and order.invoice_id is None:
        return Outlook(status="none", tone="bad", title="Not placed yet", text=order.trouble.title + ".")
    tone, title, text = WORDS["unknown"] if order.invoice_id else PLACING
    return Outlook(status="unknown" if order.invoice_id else "none", tone=tone, title=title, text=text)
