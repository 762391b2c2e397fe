"""What is wrong with the settings, each by its name and never with its value, and what is doubtful."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches

import httpx
from pydantic import SecretStr

from app.configured import accounts, limits_of, routing
from app.doctor.finding import Finding
from app.exchange import Exchange
from app.provider import Provider
from app.providers import WrongSettings, kinds
from app.settings import (
    LOOPBACK,
    PREFIX,
    PROVIDERS,
    SANDBOX_KEY,
    SANDBOX_WEBHOOK_SECRET,
    Settings,
    SettingsError,
)

# A secret of fewer different characters was typed and not drawn.
FEWEST_CHARACTERS = 8
TYPED = ("secret", "password", "changeme", "change-me", "example", "sandbox")


def meant(name: str) -> str:
    """A name that is none, with the nearest right one."""
    first, *rest = name.removeprefix(PREFIX).lower().split("__")
    near = get_close_matches(first, Settings.model_fields, 1)
    return f"{name} is not a setting; {guess([PREFIX + '__'.join([near[0], *rest]).upper()] if near else [])}"


def guess(names: list[str]) -> str:
    return f"did you mean {names[0]}?" if names else "take it away"


def built(settings: Settings) -> tuple[dict[str, Provider], list[str]]:
    """The accounts that can be made, and what is wrong with the others."""
    made, faults = dict[str, Provider](), list[str]()
    for name, given in settings.providers.items():
        try:
            made.update(accounts(settings, {name: given}))
        except WrongSettings as error:
            faults += (corrected(fault, given.get("kind", name)) for fault in error.faults)
        except SettingsError as error:
            faults += error.faults
    return made, faults


def corrected(fault: str, kind: str) -> str:
    """With the nearest right name, where it is about one that its kind doesn't have."""
    variable, _, what = fault.partition(":")
    account, _, field = variable.removeprefix(PROVIDERS).partition("__")
    if not what.endswith("is not a setting of this kind"):
        return fault
    near = get_close_matches(field.lower(), kinds()[kind].model_fields, 1)
    return f"{fault}; {guess([f'{PROVIDERS}{account}__{near[0].upper()}'] if near else [])}"


def contradictions(settings: Settings, providers: dict[str, Provider]) -> Iterator[str]:
    """What would stop the start though each setting is right by itself."""
    tries: list[Callable[[], object]] = [lambda: settings.mode("127.0.0.1"), lambda: limits_of(settings)]
    if len(providers) == len(settings.providers):
        tries.append(lambda: routing(settings, providers, Exchange(wire=httpx.AsyncBaseTransport())))
    for attempt in tries:
        try:
            attempt()
        except SettingsError as error:
            yield from error.faults


def borrowed(settings: Settings) -> Iterator[Finding]:
    """What everybody knows must not guard real money."""
    if not settings.providers:
        return
    if any(key.secret.get_secret_value() == SANDBOX_KEY for key in settings.api_keys):
        yield Finding(
            "secrets", "wrong", "GATEHOUSE_API_KEYS has the sandbox's key, which everybody knows: draw another"
        )
    if any(secret.get_secret_value() == SANDBOX_WEBHOOK_SECRET for secret in settings.webhook_secret):
        says = "GATEHOUSE_WEBHOOK_SECRET is the sandbox's, which everybody knows: draw another"
        yield Finding("secrets", "wrong", says)


def doubts(settings: Settings) -> Iterator[Finding]:
    """What may be meant so."""
    if not settings.providers:
        yield Finding("mode", "doubtful", "no provider is configured: only the sandbox can be served")
        return
    for name in typed(settings):
        says = f"{PREFIX}{name} looks typed: draw it, as with `openssl rand -base64 32`"
        yield Finding("secrets", "doubtful", says)
    for about, is_so, says in DOUBTS:
        if is_so(settings):
            yield Finding(about, "doubtful", says)


DOUBTS: tuple[tuple[str, Callable[[Settings], bool], str], ...] = (
    (
        "public address",
        lambda settings: is_here(settings.public_url.host),
        "GATEHOUSE_PUBLIC_URL is this machine, which no provider and no shopper can reach: set how they do",
    ),
    (
        "public address",
        lambda settings: settings.public_url.scheme != "https" and not is_here(settings.public_url.host),
        "GATEHOUSE_PUBLIC_URL is not https: put TLS in front",
    ),
    (
        "events",
        lambda settings: not settings.webhook_secret,
        "GATEHOUSE_WEBHOOK_SECRET is not set, and events go out unsigned: set it to whsec_ and 32 bytes in base64",
    ),
    ("background work", lambda settings: not settings.worker, "GATEHOUSE_WORKER is off: run `gatehouse worker` too"),
    (
        "private networks",
        lambda settings: settings.allow_private_networks,
        "GATEHOUSE_ALLOW_PRIVATE_NETWORKS is on, and callers can have them called: take it away if none is needed",
    ),
    (
        "limits",
        lambda settings: settings.rate_limit is None and settings.redis_url is not None,
        "GATEHOUSE_REDIS_URL is superfluous while GATEHOUSE_RATE_LIMIT is off: take one away",
    ),
)


def is_here(host: str | None) -> bool:
    return (host or "").strip("[]") in LOOPBACK


def typed(settings: Settings) -> Iterable[str]:
    """The settings with a secret that can be guessed."""
    secrets: Mapping[str, Iterable[SecretStr | None]] = {
        "API_KEYS": [key.secret for key in settings.api_keys],
        "SECRET_KEY": [settings.secret_key],
        "SECRET_KEY_PREVIOUS": [settings.secret_key_previous],
        "WEBHOOK_SECRET": settings.webhook_secret,
    }
    return [
        name for name, found in secrets.items() if any(each and is_typed(each.get_secret_value()) for each in found)
    ]


def is_typed(secret: str) -> bool:
    drawn = secret.removeprefix("whsec_")
    return len(set(drawn)) < FEWEST_CHARACTERS or any(word in drawn.lower() for word in TYPED)
