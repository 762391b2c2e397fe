"""What the shop sells, and which of it can be paid at which provider."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.shop.payments import Sheet

# What an order of this shop can tell a provider; what a sheet requires beyond it, nobody here knows.
TOLD = frozenset({"amount", "currency", "customer.email", "description", "items.variant_id", "order_id"})
OWN_LIST = "items.variant_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`amount` is in major units; `variant` is its id in the list of a provider that sells by its own prices."""

    id: str
    name: str
    text: str
    amount: str
    currency: str
    variant: str

    @property
    def is_free(self) -> bool:
        return self.amount == "0"

    @property
    def price(self) -> str:
        return "Free" if self.is_free else f"{self.amount} {self.currency}"


PRODUCTS = {
    product.id: product
    for product in (
        Product(
            id="mug",
            name="Enamel mug",
            text="Holds coffee, and survives the floor.",
            amount="19.99",
            currency="USD",
            variant="1001",
        ),
        Product(
            id="bag",
            name="Canvas bag",
            text="Waxed cotton, one good strap.",
            amount="49.90",
            currency="EUR",
            variant="1002",
        ),
        Product(
            id="cards",
            name="Postcards",
            text="Eight views of one mountain.",
            amount="1500",
            currency="JPY",
            variant="1003",
        ),
        Product(
            id="sticker",
            name="Sticker",
            text="On the house, one each.",
            amount="0",
            currency="USD",
            variant="1000",
        ),
    )
}


def is_served(sheet: Sheet) -> bool:
    """Whether an order of this shop has what the provider cannot do without; a requirement may be `one or another`."""
    can = sheet.operations.get("create", False) and sheet.operations.get("checkout", False)
    return can and all(TOLD.intersection(field.split(" or ")) for field in sheet.required_fields)


def sells_by_own_list(sheet: Sheet) -> bool:
    return OWN_LIST in sheet.required_fields


def offered(sheet: Sheet, currencies: Collection[str] | None) -> list[Product]:
    """What can be paid there; `currencies` None means any. Where the price is ours to state, it must not be nothing."""
    products = [one for one in PRODUCTS.values() if currencies is None or one.currency in currencies]
    return [one for one in products if not one.is_free or "amount" not in sheet.required_fields]


def richest(sheets: Sequence[Sheet]) -> Sheet | None:
    """The way to pay in which the most can be bought, as far as the sheets tell."""
    return max(sheets, key=lambda sheet: len(offered(sheet, sheet.currencies)), default=None)
