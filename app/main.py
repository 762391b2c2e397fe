"""Put the house together: the only file that knows every room."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from importlib.metadata import version
from time import monotonic
from typing import Any

from fastapi import FastAPI
from opentelemetry.trace import Tracer

from app import api, ops
from app.api.bodies import read
from app.api.problems import status_of
from app.configured import (
    MESSAGES_AT_ONCE,
    accounts,
    addresses_of,
    destinations_of,
    keys_of,
    limits_of,
    longest,
    routing,
    wire,
)
from app.domain.errors import Overloaded
from app.exchange import Exchange
from app.observe import Figures, configure_logging, tracer_of
from app.provider import Provider
from app.service.addresses import Addresses
from app.service.catalog import Catalog
from app.service.checkouts import Checkouts
from app.service.clock import Clock, Ticks, utc_now
from app.service.creation import GRACE, Creation
from app.service.deliveries import Deliveries
from app.service.feed import Feed
from app.service.hints import Hints
from app.service.history import History
from app.service.idempotency import Idempotency
from app.service.invoices import Invoices
from app.service.keys import Keys
from app.service.listing import Listing
from app.service.notifications import Notifications
from app.service.operators import Operators
from app.service.pauses import OBEY_EVERY_SECONDS, Pauses
from app.service.reconcile import Reconcile
from app.service.records import Records
from app.service.recovery import Recovery
from app.service.retention import Retention
from app.service.schedule import Schedule
from app.service.search import Search
from app.service.services import Services
from app.service.steps import Steps
from app.service.traces import KEEP_EVERY_SECONDS, Traces
from app.service.watch import LOOK_EVERY_SECONDS, Watch
from app.settings import Settings, load
from app.storage.engine import Engine, open_engine
from app.storage.feed import EventLog
from app.storage.inbox import Inbox
from app.storage.journal import Journal
from app.storage.outbox import Outbox
from app.storage.retention import Purge
from app.storage.store import Store
from app.worker import Worker, forever


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
                beside(forever("watch", lambda: watch.look(store), asyncio.sleep, LOOK_EVERY_SECONDS)),
                beside(forever("feed", services.feed.look, asyncio.sleep, LOOK_EVERY_SECONDS)),
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
        feed=Feed(log=log, watch=watch),
        watch=watch,
        history=History(traces=records.traces, inbox=inbox, events=log, outbox=deliveries.outbox),
        pauses=Pauses(journal=records.traces.journal, exchange=exchange, providers=providers, clock=clock),
        retention=Retention(purge=Purge(engine), clock=clock, kept_for=timedelta(days=settings.retention_days)),
    )


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
        sessions=ops.Sessions(keys=keys, signer=addresses.signer, clock=clock),
        secure=addresses.public_url.startswith("https:"),
        read=read,
        status_of=status_of,
    )
    return app


def from_environment() -> FastAPI:
    """The service of one of several processes."""
    settings = load()
    configure_logging(settings.log_level)
    return production_app(settings)


def production_app(settings: Settings) -> FastAPI:
    """The service of the accounts that are configured, which tells its spans where the environment says."""
    keys, tracer = keys_of(settings), tracer_of(os.environ)
    return create_app(settings, provider_settings=settings.providers, keys=keys, tracer=tracer)


@asynccontextmanager
async def working(services: Services) -> AsyncIterator[None]:
    """The background work goes on beside whatever is done within."""
    async with beside(Worker(services).work()):
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
