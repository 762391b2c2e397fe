"""Put the house together: the only file that knows every room."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from secrets import token_urlsafe
from time import monotonic

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from app import api
from app.api.keys import Key, Keys, Role
from app.exchange import Exchange
from app.observe import configure_logging
from app.provider import Provider
from app.providers import build
from app.service.addresses import Addresses
from app.service.catalog import Catalog
from app.service.checkouts import Checkouts
from app.service.clock import Clock, Ticks, utc_now
from app.service.creation import GRACE, Creation
from app.service.idempotency import Idempotency
from app.service.invoices import Invoices
from app.service.listing import Listing
from app.service.operators import Operators
from app.service.reconcile import Reconcile
from app.service.records import Records
from app.service.recovery import Recovery
from app.service.schedule import Schedule
from app.settings import LOOPBACK, SANDBOX_KEY, Mode, Settings, load
from app.storage.engine import open_engine
from app.storage.store import Store
from app.wire import Proxied, Wire
from app.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    clock: Clock
    store: Store
    exchange: Exchange
    creation: Creation
    invoices: Invoices
    idempotency: Idempotency
    operators: Operators
    reconcile: Reconcile
    checkouts: Checkouts
    listing: Listing
    catalog: Catalog


@asynccontextmanager
async def open_services(
    settings: Settings,
    providers: Mapping[str, Provider],
    public_url: str,
    clock: Clock = utc_now,
    ticks: Ticks = monotonic,
) -> AsyncIterator[Services]:
    """The services over an open store and an open wire, both closed at the end."""
    async with open_engine(settings.database_url) as engine, wire(settings) as carrier:
        store = Store(engine)
        if settings.auto_migrate:
            await store.migrate()
        exchange = Exchange(wire=carrier, clock=ticks)
        max_age = timedelta(seconds=settings.max_age)
        records = Records(store=store, exchange=exchange, providers=providers, clock=clock)
        schedule = Schedule(waits=settings.reconcile_schedule)
        addresses = Addresses(public_url=public_url, secrets=signing_keys(settings))
        creation = Creation(records=records, addresses=addresses, schedule=schedule)
        recovery = Recovery(creation=creation, settle=timedelta(seconds=settings.settle))
        yield Services(
            clock=clock,
            store=store,
            exchange=exchange,
            creation=creation,
            invoices=Invoices(records=records, creation=creation, recovery=recovery, max_age=max_age),
            checkouts=Checkouts(records=records, recovery=recovery),
            idempotency=Idempotency(store=store, clock=clock, lease=longest(providers) + GRACE),
            operators=Operators(records=records),
            reconcile=Reconcile(records=records, recovery=recovery, schedule=schedule),
            listing=Listing(store=store, exchange=exchange, providers=providers, clock=clock, max_age=max_age),
            catalog=Catalog(exchange=exchange, providers=providers),
        )


def create_app(
    settings: Settings,
    *,
    provider_settings: Mapping[str, Mapping[str, str]],
    mode: Mode = Mode.PRODUCTION,
    host: str = "127.0.0.1",
    public_url: str | None = None,
    clock: Clock = utc_now,
    ticks: Ticks = monotonic,
) -> FastAPI:
    """The service. `provider_settings` are {name: {field: text}}, of real accounts or of the simulators."""
    providers = build(provider_settings, timeout=settings.provider_timeout, clock=clock)
    public = (public_url or str(settings.public_url)).rstrip("/")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, providers, public, clock, ticks) as services:
            app.state.services = services
            async with working(services) if settings.worker else nullcontext():
                yield

    app = FastAPI(
        title="Gatehouse",
        version=version("gatehouse"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.install(app, public_url=public, keys=keys_of(settings, mode, host))
    return app


def from_environment() -> FastAPI:
    """The service of one of several processes."""
    settings = load()
    configure_logging(settings.log_level)
    return create_app(settings, provider_settings=settings.providers)


@asynccontextmanager
async def working(services: Services) -> AsyncIterator[None]:
    """The background work goes on beside whatever is done within."""
    work = asyncio.create_task(Worker(store=services.store, reconcile=services.reconcile).work())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})


def longest(providers: Mapping[str, Provider]) -> timedelta:
    """What the most patient provider may take for one operation."""
    return timedelta(seconds=max((provider.timeout for provider in providers.values()), default=0))


def wire(settings: Settings) -> httpx.AsyncBaseTransport:
    return Proxied(str(settings.egress_proxy)) if settings.egress_proxy else Wire()


def keys_of(settings: Settings, mode: Mode, host: str) -> Keys:
    """The callers' keys; in the sandbox on loopback, where none are set, the one that everybody knows."""
    keys = [Key(name=key.name, role=Role[key.role.upper()], secret=key.secret) for key in settings.api_keys]
    if not keys and mode is Mode.SANDBOX and host in LOOPBACK:
        keys = [Key(name="sandbox", role=Role.ADMIN, secret=SecretStr(SANDBOX_KEY))]
    return Keys(keys)


def signing_keys(settings: Settings) -> tuple[SecretStr, ...]:
    """What signs, then what the one before it signed and is still accepted; random where none is set (sandbox only)."""
    current = settings.secret_key or SecretStr(token_urlsafe(32))
    return (current, settings.secret_key_previous) if settings.secret_key_previous else (current,)
