"""Money is exact: parsed strictly, compared by value, never a float."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import Money, exponent, total


@pytest.mark.parametrize(
    ("text", "currency", "shown", "minor"),
    [
        ("49.9", "EUR", "49.90", 4990),
        ("10", "EUR", "10.00", 1000),
        ("0", "USD", "0.00", 0),
        ("1500", "JPY", "1500", 1500),
        ("1.234", "KWD", "1.234", 1234),
        ("0.00001112", "BTC", "0.00001112", 1112),
        ("100", "USDT", "100", 100_000_000),
        ("0.1", "ETH", "0.1", 10**17),
    ],
)
def test_an_amount_is_shown_in_the_scale_of_its_currency(text: str, currency: str, shown: str, minor: int) -> None:
    money = Money.parse(text, currency)
    assert money.text == shown
    assert money.minor == minor
    assert Money.of_minor(minor, currency) == money


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1_000", "+1", "-1", "01", "1.", ".5", "1e2", "NaN", "Infinity", "1,5", "１", "1" * 19, "1.005"],
)
def test_what_is_not_a_plain_decimal_of_the_scale_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|more decimals") as caught:
        Money.parse(text, "EUR")
    assert not text.strip() or f"'{text}'" not in str(caught.value)


@pytest.mark.parametrize("currency", ["", "eur", "XAU", "XXX", "ZZZ", "EURO"])
def test_what_is_no_currency_for_paying_is_refused(currency: str) -> None:
    assert exponent(currency) is None
    with pytest.raises(ValueError, match="not a currency"):
        Money.parse("1", currency)


def test_equal_money_compares_equal_however_a_provider_writes_it() -> None:
    assert Money.of(Decimal("49.9"), "EUR") == Money.of(Decimal("49.900"), "EUR") == Money.parse("49.90", "EUR")
    assert Money.of(Decimal("1E+2"), "JPY").text == "100"
    assert Money.of(Decimal("49.90"), "EUR") != Money.of(Decimal("49.90"), "USD")


def test_more_decimals_than_the_currency_has_are_kept_not_rounded() -> None:
    assert Money.of(Decimal("49.901"), "EUR").text == "49.901"
    with pytest.raises(ValueError, match="fraction"):
        _ = Money.of(Decimal("49.901"), "EUR").minor


def test_many_payments_are_summed_to_the_last_digit() -> None:
    large, small = Decimal("123456789012345678.1"), Decimal("0.000000000000000001")
    assert total([large, small, small]) == Decimal("123456789012345678.100000000000000002")
    with pytest.raises(ArithmeticError):
        total([Decimal("1e40"), Decimal("1e-40")])


def test_an_amount_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Money.of(Decimal("NaN"), "EUR")


@given(st.integers(0, 10**15), st.sampled_from(["EUR", "JPY", "KWD", "BTC"]))
def test_minor_units_and_text_tell_the_same(units: int, currency: str) -> None:
    money = Money.of_minor(units, currency)
    assert money.minor == units
    assert Money.parse(money.text, currency) == money
