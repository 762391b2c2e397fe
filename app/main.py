"""Put the house together: the only file that knows every room."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from importlib.metadata import version
from secrets import token_urlsafe
from time import monotonic
from typing import Any

import httpx
from fastapi import FastAPI
from limits.aio.storage import RedisStorage
from limits.errors import ConfigurationError
from opentelemetry.trace import Tracer
from pydantic import SecretStr

from app import api, ops
from app.api.admission import aside
from app.api.bodies import read
from app.api.keys import Key, Keys, Role
from app.api.limits import Limits
from app.api.meters import Meter, Shared
from app.api.problems import status_of
from app.domain.errors import Overloaded
from app.exchange import Exchange
from app.observe import Figures, configure_logging, tracer_of
from app.provider import Provider
from app.providers import build
from app.service.addresses import Addresses
from app.service.buckets import Buckets, Policy
from app.service.catalog import Catalog
from app.service.checkouts import Checkouts
from app.service.clock import Clock, Ticks, utc_now
from app.service.creation import GRACE, Creation
from app.service.deliveries import Deliveries
from app.service.destinations import Destinations
from app.service.feed import Feed
from app.service.hints import Hints
from app.service.history import History
from app.service.idempotency import Idempotency
from app.service.invoices import Invoices
from app.service.listing import Listing
from app.service.notifications import Notifications
from app.service.operators import Operators
from app.service.pauses import OBEY_EVERY_SECONDS, Pauses
from app.service.reconcile import Reconcile
from app.service.records import Records
from app.service.recovery import Recovery
from app.service.retention import Retention
from app.service.routing import Routing, Rule
from app.service.schedule import Schedule
from app.service.search import Search
from app.service.services import Services
from app.service.steps import Steps
from app.service.traces import KEEP_EVERY_SECONDS, Traces
from app.service.watch import LOOK_EVERY_SECONDS, Watch
from app.settings import LOOPBACK, SANDBOX_KEY, Settings, SettingsError, load
from app.storage.engine import Engine, open_engine
from app.storage.feed import EventLog
from app.storage.inbox import Inbox
from app.storage.journal import Journal
from app.storage.outbox import Outbox
from app.storage.retention import Archive
from app.storage.store import Store
from app.wire import Proxied, Wire
from app.worker import Worker, forever

# Calls to one provider, and through a proxy events to all receivers.
CALLS_AT_ONCE, MESSAGES_AT_ONCE = 32, 512
OPENED = "GATEHOUSE_ALLOW_PRIVATE_NETWORKS=on opens private networks and plain http"


@asynccontextmanager
async def open_services(
    settings: Settings,
    providers: Mapping[str, Provider],
    addresses: Addresses,
    clock: Clock = utc_now,
    ticks: Ticks = monotonic,
    figures: Figures | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Services]:
    """The services over an open store and an open wire; at the end what is under way is given back, and all closed."""
    destinations = destinations_of(settings)
    async with (
        open_engine(settings.database_url) as engine,
        wire(settings, destinations) as carrier,
        wire(settings, destinations, MESSAGES_AT_ONCE) as messenger,
    ):
        watch = Watch()
        receiver = str(settings.webhook_url) if settings.webhook_url else None
        store = Store(engine, webhook_url=receiver, changed=watch.ring)
        if settings.auto_migrate:
            await store.migrate()
        traces = Traces(journal=Journal(engine), clock=clock)
        exchange = Exchange(
            wire=carrier,
            clock=ticks,
            listener=traces.heard,
            figures=figures or Figures(),
            tracer=tracer,
            aside=aside,
        )
        records = Records(store=store, exchange=exchange, providers=providers, clock=clock, traces=traces)
        deliveries = Deliveries(
            outbox=Outbox(engine),
            wire=messenger,
            secrets=settings.webhook_secret,
            waits=settings.delivery_schedule,
            clock=clock,
        )
        services = assembled(settings, engine, records, deliveries, watch, addresses)
        try:
            await services.pauses.look()
            async with (
                beside(forever("watch", services.feed.look, asyncio.sleep, LOOK_EVERY_SECONDS)),
                beside(forever("traces", traces.keep, asyncio.sleep, KEEP_EVERY_SECONDS)),
                beside(forever("pauses", services.pauses.look, asyncio.sleep, OBEY_EVERY_SECONDS)),
            ):
                yield services
        finally:
            await services.notifications.close()
            await services.deliveries.close()
            with suppress(Overloaded):
                await traces.flush()


def assembled(
    settings: Settings, engine: Engine, records: Records, deliveries: Deliveries, watch: Watch, addresses: Addresses
) -> Services:
    store, exchange, providers, clock = records.store, records.exchange, records.providers, records.clock
    max_age, destinations = timedelta(seconds=settings.max_age), destinations_of(settings)
    schedule = Schedule(waits=settings.reconcile_schedule)
    search = Search(records=records, settle=timedelta(seconds=settings.settle))
    creation = Creation(
        records=records,
        search=search,
        addresses=addresses,
        schedule=schedule,
        routing=routing(settings, providers, exchange),
        destinations=destinations,
    )
    recovery = Recovery(records=records, creation=creation, search=search)
    inbox, log = Inbox(engine), EventLog(engine)
    steps = Steps(records=records, recovery=recovery)
    return Services(
        clock=clock,
        store=store,
        addresses=addresses,
        creation=creation,
        invoices=Invoices(
            records=records, creation=creation, recovery=recovery, steps=steps, watch=watch, max_age=max_age
        ),
        checkouts=Checkouts(records=records, steps=steps, destinations=destinations),
        idempotency=Idempotency(store=store, clock=clock, lease=longest(providers) + GRACE),
        operators=Operators(records=records),
        reconcile=Reconcile(records=records, recovery=recovery, schedule=schedule),
        listing=Listing(store=store, exchange=exchange, providers=providers, clock=clock, max_age=max_age),
        catalog=Catalog(exchange=exchange, providers=providers),
        notifications=Notifications(
            inbox=inbox,
            records=records,
            recovery=recovery,
            addresses=addresses,
            hints=Hints.of(exchange, clock),
            lease=longest(providers) + 4 * GRACE,
        ),
        deliveries=deliveries,
        feed=Feed(log=log, store=store, watch=watch),
        watch=watch,
        history=History(traces=records.traces, inbox=inbox, events=log, outbox=deliveries.outbox),
        pauses=Pauses(journal=records.traces.journal, exchange=exchange, providers=providers, clock=clock),
        retention=Retention(archive=Archive(engine), clock=clock, kept_for=timedelta(days=settings.retention_days)),
    )


def routing(settings: Settings, providers: Mapping[str, Provider], exchange: Exchange) -> Routing:
    """SettingsError, where a rule names a provider that there isn't."""
    if any(name not in providers for route in settings.routes for name in route.providers):
        raise SettingsError(["GATEHOUSE_ROUTES names a provider that is not configured"])
    rules = [
        Rule(
            providers=route.providers,
            currencies=route.currencies,
            least=route.min,
            most=route.max,
            countries=route.countries,
        )
        for route in settings.routes
    ]
    return Routing(providers=providers, rules=rules, serves=lambda provider: exchange.lane(provider).serves)


def create_app(
    settings: Settings,
    *,
    provider_settings: Mapping[str, Mapping[str, str]],
    keys: Keys,
    public_url: str | None = None,
    clock: Clock = utc_now,
    ticks: Ticks = monotonic,
    tracer: Tracer | None = None,
) -> FastAPI:
    """The service. `provider_settings` are {name: {field: text}}, of real accounts or of the simulators."""
    providers = accounts(settings, provider_settings, clock)
    addresses = addresses_of(settings, public_url)
    figures = Figures()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, providers, addresses, clock, ticks, figures, tracer) as services:
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
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it tells whole addresses and exceptions
    )
    api.install(
        app,
        public_url=addresses.public_url,
        keys=keys,
        client_of=addresses.client_of,
        origins=settings.cors_origins,
        limits=limits_of(settings, ticks),
        figures=figures,
        tracer=tracer,
    )
    ops.install(
        app,
        sessions=sessions_of(keys, addresses, clock),
        secure=addresses.public_url.startswith("https:"),
        read=read,
        status_of=status_of,
    )
    return app


def from_environment() -> FastAPI:
    """The service of one of several processes."""
    settings = load()
    configure_logging(settings.log_level)
    return create_app(
        settings, provider_settings=settings.providers, keys=keys_of(settings), tracer=tracer_of(os.environ)
    )


@asynccontextmanager
async def working(services: Services) -> AsyncIterator[None]:
    """The background work goes on beside whatever is done within."""
    worker = Worker(
        clock=services.clock,
        store=services.store,
        reconcile=services.reconcile,
        notifications=services.notifications,
        deliveries=services.deliveries,
        retention=services.retention,
        watch=services.watch,
    )
    async with beside(worker.work()):
        yield


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """It goes on until the block is left."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1)


def longest(providers: Mapping[str, Provider]) -> timedelta:
    """What the most patient provider may take for one operation."""
    return timedelta(seconds=max((provider.timeout for provider in providers.values()), default=0))


def accounts(
    settings: Settings, provider_settings: Mapping[str, Mapping[str, str]], clock: Clock = utc_now
) -> Mapping[str, Provider]:
    """The configured providers; WrongSettings and SettingsError say what is wrong with them, and with our receiver."""
    providers = build(provider_settings, timeout=settings.provider_timeout, clock=clock)
    destinations = destinations_of(settings)
    where = {f"PROVIDERS__{name.upper()}__BASE_URL": provider.base_url for name, provider in providers.items()}
    judged = {name: destinations.host_fault(str(url)) for name, url in where.items()}
    wrong = [f"GATEHOUSE_{name} {fault}" for name, fault in judged.items() if fault]
    if settings.webhook_url and (fault := destinations.callback_fault(str(settings.webhook_url))):
        wrong.append(f"GATEHOUSE_WEBHOOK_URL {fault}")
    if wrong:
        raise SettingsError([*wrong, OPENED])
    return providers


def destinations_of(settings: Settings) -> Destinations:
    return Destinations(
        private=settings.allow_private_networks,
        callback_ports=frozenset(settings.callback_ports),
        redirect_hosts=frozenset(host.lower() for host in settings.redirect_hosts),
    )


def wire(settings: Settings, destinations: Destinations, at_once: int = CALLS_AT_ONCE) -> httpx.AsyncBaseTransport:
    """Straight out, or through a proxy, which then guards the addresses too; so many calls to one of either."""
    if settings.egress_proxy:
        return Proxied(str(settings.egress_proxy), connections=at_once)
    return Wire(permits=destinations.permits, connections=min(at_once, CALLS_AT_ONCE))


def keys_of(settings: Settings) -> Keys:
    return Keys(Key(name=key.name, role=Role[key.role.upper()], secret=key.secret) for key in settings.api_keys)


def sandbox_keys(settings: Settings, host: str) -> Keys:
    """Where none are set, on loopback the one that everybody knows, and elsewhere none."""
    if settings.api_keys or host not in LOOPBACK:
        return keys_of(settings)
    return Keys([Key(name="sandbox", role=Role.ADMIN, secret=SecretStr(SANDBOX_KEY))])


def sessions_of(keys: Keys, addresses: Addresses, clock: Clock) -> ops.Sessions:
    """Of whoever has an admin key."""
    admins = [key for key in keys.by_digest.values() if key.may(Role.ADMIN)]
    operators = [ops.Operator(name=key.name, secret=key.secret) for key in admins]
    return ops.Sessions(operators=operators, secret=addresses.secret, earlier=addresses.earlier, clock=clock)


def limits_of(settings: Settings, ticks: Ticks = monotonic) -> Limits | None:
    """None where they are off; SettingsError, where they are to be shared and can't be."""
    if settings.rate_limit is None:
        return None
    policy = Policy("key", per_second=settings.rate_limit, burst=2 * settings.rate_limit)
    callers: Meter = Buckets(policy, ticks)
    if settings.redis_url:
        callers = Shared(shared_storage(settings.redis_url), Buckets(policy, ticks))
    return Limits.of(callers, settings.trusted_proxies, ticks)


def shared_storage(url: SecretStr) -> RedisStorage:
    try:
        return RedisStorage(url.get_secret_value(), wrap_exceptions=True, implementation="redispy")
    except (ConfigurationError, ValueError):
        wrong = "GATEHOUSE_REDIS_URL must be redis:// or rediss://"
        raise SettingsError([wrong]) from None


def addresses_of(settings: Settings, public_url: str | None = None) -> Addresses:
    public = (public_url or str(settings.public_url)).rstrip("/")
    return Addresses(public_url=public, secret=signing_key(settings), earlier=settings.secret_key_previous)


def signing_key(settings: Settings) -> SecretStr:
    """Random where none is set, which only the sandbox allows."""
    return settings.secret_key or SecretStr(token_urlsafe(32))
