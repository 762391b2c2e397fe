"""The registry finds every kind, makes the accounts that are configured, and says by name what keeps one from it."""

from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from app import providers
from app.provider import OPERATIONS, Notices, Provider, Recovery, Redirect
from app.providers import WrongSettings, build, kinds, provider_in

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SELLAPP = {"api_key": "canary-key", "store": "canary-store"}
FOLDER = Path(providers.__file__).parent


def built(settings: dict[str, dict[str, Any]]) -> dict[str, Provider]:
    return build(settings, timeout=7.5, clock=lambda: NOW)


def faults(settings: dict[str, dict[str, Any]]) -> list[str]:
    with pytest.raises(WrongSettings) as caught:
        built(settings)
    assert str(caught.value) == "\n".join(caught.value.faults)
    assert "canary" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    return caught.value.faults


def test_every_module_of_the_folder_is_a_kind() -> None:
    assert sorted(kinds()) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    assert {name: cls.kind() for name, cls in kinds().items()} == {name: name for name in kinds()}


@pytest.mark.parametrize("classes", [[], ["One", "Other"]])
def test_a_module_defines_exactly_one_provider(classes: list[str]) -> None:
    module = ModuleType("planted")
    module.__dict__["Imported"] = Provider
    for name in classes:
        module.__dict__[name] = type(name, (Provider,), {"__module__": "planted"})
    with pytest.raises(ValueError, match="values to unpack"):
        provider_in(module)


def test_the_one_provider_of_a_module_is_found_among_what_it_imports() -> None:
    module = ModuleType("planted")
    own = type("Own", (Provider,), {"__module__": "planted"})
    module.__dict__.update(Imported=Provider, Own=own, other=7)
    assert provider_in(module) is own


@pytest.mark.parametrize("kind", kinds())
def test_a_sheets_facts_are_of_the_known_words(kind: str) -> None:
    cls = kinds()[kind]
    assert cls.create_recovery in get_args(Recovery)
    assert cls.redirect in get_args(Redirect)
    assert all(cls.can(operation) for operation in ("create", "checkout", "get"))
    assert cls.required
    assert {operation for operation in OPERATIONS if cls.can(operation)} <= set(OPERATIONS)


def test_two_accounts_of_a_kind_are_two_providers() -> None:
    shops = built(
        {
            "sellapp": {**SELLAPP, "webhook_secret": "new, old"},
            "shop-2": {**SELLAPP, "kind": "sellapp", "store": "other", "base_url": "http://127.0.0.1:9000/sellapp/api"},
        }
    )
    assert [(name, shop.name, shop.kind()) for name, shop in shops.items()] == [
        ("sellapp", "sellapp", "sellapp"),
        ("shop-2", "shop-2", "sellapp"),
    ]
    assert [shop.notices for shop in shops.values()] == ["signed", "none"]
    assert {shop.notices for shop in shops.values()} <= set(get_args(Notices))
    calls = [next(shop.list_invoices()) for shop in shops.values()]
    assert [call.credentials["X-STORE"] for call in calls] == ["canary-store", "other"]
    assert calls[1].url == "http://127.0.0.1:9000/sellapp/api/v2/invoices?limit=100&sort=-created_at"


def test_an_account_has_the_common_clock_and_its_own_timeout_or_the_common_one() -> None:
    shops = built({"one": {**SELLAPP, "kind": "sellapp"}, "two": {**SELLAPP, "kind": "sellapp", "timeout": "2.5"}})
    assert [(shop.timeout, shop.clock()) for shop in shops.values()] == [(7.5, NOW), (2.5, NOW)]


def test_no_secret_is_shown() -> None:
    shops = built(
        {
            "sellapp": {**SELLAPP, "webhook_secret": "canary-hook"},
            "bluetape": {"api_key": "canary-key", "account_id": "canary-account"},
            "turinpay": {"api_key": "canary-key"},
            "generic": {"api_key": "canary-key", "public_key": "canary-public", "private_key": "canary-a,canary-b"},
        }
    )
    shown = " ".join(f"{shop!r} {shop} {shop.model_dump_json(exclude={'store'})}" for shop in shops.values())
    assert "canary" not in shown.replace("store='canary-store'", "")


def test_nothing_configured_is_nothing_built() -> None:
    assert built({}) == {}


PREFIX = "GATEHOUSE_PROVIDERS__"
PAIR = {"public_key": "canary", "private_key": "canary"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"sellapp": {}}, ["SELLAPP__API_KEY: is missing", "SELLAPP__STORE: is missing"], id="missing"),
        pytest.param(
            {"sellapp": {**SELLAPP, "api_key": "", "webhook_secret": "canary,"}},
            ["SELLAPP__API_KEY: is missing or empty", "SELLAPP__WEBHOOK_SECRET: is missing or empty"],
            id="empty",
        ),
        pytest.param(
            {"shop2": {**SELLAPP, "kind": "sellapp", "apikey": "canary", "base_url": "ftp://canary.example"}},
            [
                "SHOP2__APIKEY: is not a setting of this kind",
                "SHOP2__BASE_URL: URL scheme should be 'http' or 'https'",
            ],
            id="misspelt and wrong",
        ),
        pytest.param(
            {"sellapp": {**SELLAPP, "webhook_secret": "canary1,canary2,canary3"}},
            ["SELLAPP__WEBHOOK_SECRET: Value should have at most 2 items after validation, not 3"],
            id="three secrets",
        ),
        pytest.param(
            {"sellapp": {**SELLAPP, "store": "canary\r\nX-Other: 1"}},
            ["SELLAPP__STORE: String should match pattern '^[A-Za-z0-9_-]+$'"],
            id="a store that is no header",
        ),
        pytest.param({"sellapp": {**SELLAPP, "": "canary"}}, ["SELLAPP: is not a setting of this kind"], id="no field"),
        pytest.param(
            {"sellapp": {**SELLAPP, "timeout": "0"}}, ["SELLAPP__TIMEOUT: Input should be greater than 0"], id="timeout"
        ),
        pytest.param(
            {"sellapp": {**SELLAPP, "name": "canary", "clock": "canary"}},
            ["SELLAPP__NAME: is not a setting", "SELLAPP__CLOCK: is not a setting"],
            id="what is ours to say",
        ),
        pytest.param(
            {"shop2": {"kind": "canary"}, "shop3": SELLAPP},
            [f"{shop}__KIND: must be one of {', '.join(sorted(kinds()))}" for shop in ("SHOP2", "SHOP3")],
            id="unknown kinds",
        ),
        pytest.param(
            {name: {**SELLAPP, "kind": "sellapp"} for name in ("2shop", "shop 2", "s" * 33)},
            [
                f"{name}: must be named by at most 32 letters, digits, _ and -, beginning with a letter"
                for name in ("2SHOP", "SHOP 2", "S" * 33)
            ],
            id="unfit names",
        ),
        pytest.param({"generic": {}}, ["GENERIC__API_KEY: is missing or empty"], id="no mode"),
        pytest.param({"generic": {"api_key": ""}}, ["GENERIC__API_KEY: is missing or empty"], id="an empty plain mode"),
        pytest.param(
            {"generic": {"public_key": "canary"}}, ["GENERIC__PRIVATE_KEY: is missing or empty"], id="half a pair"
        ),
        pytest.param(
            {"generic": {"private_key": "canary", "api_key": "canary"}},
            ["GENERIC__PUBLIC_KEY: is missing or empty"],
            id="the other half beside a key",
        ),
        pytest.param(
            {"generic": {**PAIR, "api_key": "", "secret": "canary"}},
            ["GENERIC__API_KEY: is missing or empty", "GENERIC__SECRET: is not a setting of this kind"],
            id="a pair beside an empty key",
        ),
        pytest.param(
            {"turinpay": {"api_key": "canary", "checkout_url": "https://canary.example/checkout/"}},
            [r"TURINPAY__CHECKOUT_URL: String should match pattern '^https?://[^\s{]+\{checkout_id\}[^\s{]*$'"],
            id="a page of no intent",
        ),
        pytest.param(
            {"bluetape": {"api_key": "canary"}, "sellapp": SELLAPP, "turinpay": {}},
            ["BLUETAPE__ACCOUNT_ID: is missing", "TURINPAY__API_KEY: is missing"],
            id="the faults of all accounts at once",
        ),
    ],
)
def test_wrong_settings_stop_the_start_by_their_names(settings: dict[str, dict[str, str]], expected: list[str]) -> None:
    assert sorted(faults(settings)) == sorted(f"{PREFIX}{fault}" for fault in expected)


@pytest.mark.parametrize("given", [{"api_key": "a"}, PAIR, {**PAIR, "api_key": "a"}], ids=["plain", "signed", "both"])
def test_each_complete_mode_of_keys_will_do_and_the_signed_one_wins(given: dict[str, str]) -> None:
    shop = built({"generic": given})["generic"]
    assert ("signature" in shop.auth("GET", "/v1/invoice", None)) == ("private_key" in given)
