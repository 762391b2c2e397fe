"""Find what is wrong with a deployment: its settings, its store, its accounts at the providers; and say what to do."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from app.domain.errors import Misconfigured, Overloaded, PaymentError, ProviderNotFound
from app.domain.invoice import Invoice, Status, new_id
from app.exchange import Exchange
from app.main import accounts, destinations_of, wire
from app.provider import Provider
from app.providers import WrongSettings
from app.service.clock import utc_now
from app.settings import LOOPBACK, PREFIX, Settings, SettingsError, load
from app.storage.engine import open_engine
from app.storage.failures import StoreInUse, StoreUnusable
from app.storage.store import Store

MARKS = {"good": "ok", "doubtful": "!!", "wrong": "xx"}
# An id that no provider can have given, in the forms that they give.
NOWHERE = ("999999999999", "00000000-0000-4000-8000-000000000000")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    about: str
    state: Literal["good", "doubtful", "wrong"]
    says: str

    def __str__(self) -> str:
        return f"{MARKS[self.state]}  {self.about}: {self.says}"


async def examine() -> AsyncIterator[Finding]:
    """One finding after the other; nothing is changed anywhere."""
    try:
        settings = load()
        providers = accounts(settings, settings.providers) if settings.providers else {}
        settings.mode("127.0.0.1")
    except (SettingsError, WrongSettings) as error:
        for fault in error.faults:
            yield Finding("settings", "wrong", meant(fault))
        return
    yield Finding("settings", "good", "complete")
    for finding in doubts(settings):
        yield finding
    yield await store(settings)
    async with wire(settings, destinations_of(settings)) as carrier:
        exchange = Exchange(wire=carrier)
        for finding in await asyncio.gather(*(account(exchange, provider) for provider in providers.values())):
            yield finding


def meant(fault: str) -> str:
    """The fault, and the nearest right name where the one that was given is none."""
    name = fault.partition(" ")[0].removeprefix(PREFIX).lower()
    known = [field for field in Settings.model_fields if field != "providers"]
    near = get_close_matches(name, known, 1) if fault.endswith("is not a setting") else []
    return f"{fault}; did you mean {PREFIX}{near[0].upper()}?" if near else fault


def doubts(settings: Settings) -> Iterable[Finding]:
    """What may be meant so."""
    if not settings.providers:
        yield Finding("mode", "doubtful", "no provider is configured: only the sandbox can be served")
        return
    if settings.public_url.host in LOOPBACK:
        says = "GATEHOUSE_PUBLIC_URL is this machine: no provider and no shopper can reach it"
        yield Finding("public address", "doubtful", says)
    elif settings.public_url.scheme != "https":
        yield Finding("public address", "doubtful", "GATEHOUSE_PUBLIC_URL is not https: put TLS in front")
    if not settings.webhook_secret:
        yield Finding("events", "doubtful", "GATEHOUSE_WEBHOOK_SECRET is not set: events go out unsigned")
    if not settings.worker:
        yield Finding("background work", "doubtful", "GATEHOUSE_WORKER is off: run `gatehouse worker` too")
    if settings.allow_private_networks:
        yield Finding("private networks", "doubtful", "GATEHOUSE_ALLOW_PRIVATE_NETWORKS is on: callers may use them")


async def store(settings: Settings) -> Finding:
    try:
        async with open_engine(settings.database_url) as engine:
            if await Store(engine).is_current():
                return Finding("store", "good", "reachable, and its schema is current")
    except StoreInUse:
        return Finding("store", "good", "in use by the service, which serves its one process")
    except (StoreUnusable, Overloaded) as error:
        return Finding("store", "wrong", f"{error} Check GATEHOUSE_DATABASE_URL.")
    if settings.auto_migrate:
        return Finding("store", "good", "reachable; its schema is brought to head at the start")
    return Finding("store", "wrong", "its schema is behind: run `gatehouse migrate`")


async def account(exchange: Exchange, provider: Provider) -> Finding:
    """Whether a provider takes our credentials: by a read that changes nothing."""
    about = f"provider {provider.name}"
    try:
        await read(exchange, provider)
    except ProviderNotFound:
        pass
    except Misconfigured as error:
        said = error.complaint.message or f"it answered {error.complaint.http_status}"
        return Finding(about, "wrong", f"does not accept our credentials ({said}): check {names(provider)}")
    except PaymentError as error:
        return Finding(about, "doubtful", f"could not be asked: {error.detail}")
    return Finding(about, "good", "accepts our credentials")


async def read(exchange: Exchange, provider: Provider) -> None:
    if provider.can("list"):
        await exchange.run(provider, "list", provider.list_invoices())
        return
    now = utc_now()
    for reference in NOWHERE:
        nobody = Invoice(
            id=new_id("inv"),
            provider=provider.name,
            status=Status.PENDING,
            created_at=now,
            updated_at=now,
            reference=reference,
        )
        await exchange.run(provider, "get", provider.fetch_invoice(nobody))


def names(provider: Provider) -> str:
    """The settings of its credentials."""
    fields: Mapping[str, object] = type(provider).model_fields
    secrets = [field for field in fields if "key" in field or "account" in field or field == "store"]
    return ", ".join(f"GATEHOUSE_PROVIDERS__{provider.name.upper()}__{field.upper()}" for field in secrets)
