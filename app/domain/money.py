"""Money is a decimal amount in major units of one currency, never a float."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, reduce
from typing import Self

from iso4217 import Currency

# Decimals of the crypto assets that providers invoice in; everything else is ISO 4217.
ASSETS = {"BTC": 8, "LTC": 8, "BCH": 8, "DOGE": 8, "ETH": 18, "BNB": 18, "SOL": 9, "TRX": 6, "USDT": 6, "USDC": 6}

AMOUNT = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?", re.ASCII)

# More digits than any sum of money has: what has still more is refused and not rounded.
EXACT = Context(prec=60, traps=[InvalidOperation, Inexact])


@cache
def exponent(currency: str) -> int | None:
    """How many decimals the currency or asset has; None when it is neither, or is not for paying (XAU)."""
    if currency in ASSETS:
        return ASSETS[currency]
    try:
        decimals: int | None = Currency(currency).exponent
    except ValueError:
        return None
    return decimals


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum; ArithmeticError where it has more digits than any sum of money."""
    return reduce(EXACT.add, amounts, Decimal(0))


@dataclass(frozen=True, slots=True)
class Money:
    amount: Decimal
    currency: str

    @classmethod
    def parse(cls, text: str, currency: str) -> Self:
        """Read what a caller wrote, strictly; ValueError says what is wrong without repeating it."""
        decimals = exponent(currency)
        if decimals is None:
            raise ValueError("is not a currency that can be invoiced")
        if not AMOUNT.fullmatch(text):
            raise ValueError('must be a decimal string in major units such as "49.90"')
        if len(text.partition(".")[2]) > decimals:
            raise ValueError(f"has more decimals than {currency} allows ({decimals})")
        return cls.of(Decimal(text), currency)

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> Self:
        """Take what a provider told, in the one scale of its currency so that equal money compares equal."""
        if not amount.is_finite():
            raise ValueError("an amount must be finite")
        return cls(scaled(amount, currency), currency)

    @classmethod
    def of_minor(cls, units: int, currency: str) -> Self:
        """1999 minor units of USD are 19.99 USD; of JPY, 1999 JPY."""
        decimals = exponent(currency)
        if decimals is None:
            raise ValueError("the minor unit of this currency is not known")
        return cls.of(Decimal(units).scaleb(-decimals), currency)

    @property
    def minor(self) -> int:
        """The amount in minor units; ValueError where it has a fraction of one."""
        scaled = self.amount.scaleb(exponent(self.currency) or 0)
        if scaled != scaled.to_integral_value():
            raise ValueError("the amount has a fraction of a minor unit")
        return int(scaled)

    @property
    def text(self) -> str:
        return format(self.amount, "f")

    def __str__(self) -> str:
        return f"{self.text} {self.currency}"


def scaled(amount: Decimal, currency: str) -> Decimal:
    """In the currency's own scale; assets without trailing zeros; never rounded: ArithmeticError where it would be."""
    decimals = exponent(currency)
    plain = amount.normalize(EXACT)
    scale = -int(plain.as_tuple().exponent)
    if decimals is None or currency in ASSETS or scale > decimals:
        return plain if scale > 0 else plain.quantize(Decimal(1), context=EXACT)
    return plain.quantize(Decimal(1).scaleb(-decimals), context=EXACT)
