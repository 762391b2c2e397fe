"""Where the environment names a collector, a request and its calls to providers are spans in the caller's trace."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_server
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode, Tracer, format_span_id, format_trace_id
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from app.observe import Observed, Spanned, asked, tracer_of
from app.observe.tracing import wanted
from tests.crash import open_crash
from tests.processes import caller, served, spawn
from tests.serving import serving
from tests.world import SHOPPER, World, open_world, played

pytestmark = pytest.mark.anyio

TRACE, THEIR_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE}-{THEIR_SPAN}-01"}


@dataclass
class Traced:
    """A service whose spans are kept by the SDK's own exporter."""

    world: World
    exporter: InMemorySpanExporter

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    def one_each(self) -> tuple[ReadableSpan, ReadableSpan]:
        [server], [client] = self.spans(SpanKind.SERVER), self.spans(SpanKind.CLIENT)
        return server, client


def keeping(sampler: Sampler | None = None) -> tuple[Tracer, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("gatehouse"), exporter


@asynccontextmanager
async def traced(folder: Path, sampler: Sampler | None = None, **settings: Any) -> AsyncIterator[Traced]:
    tracer, exporter = keeping(sampler)
    async with open_world(f"sqlite:///{folder}/gatehouse.db", tracer=tracer, **settings) as world:
        yield Traced(world, exporter)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Traced]:
    async with traced(tmp_path) as service:
        yield service


def trace_of(span: ReadableSpan) -> str:
    return format_trace_id(span.context.trace_id)


def name_of(span: ReadableSpan) -> str:
    return format_span_id(span.context.span_id)


def parent_of(span: ReadableSpan) -> str | None:
    return format_span_id(span.parent.span_id) if span.parent else None


async def create(world: World, provider: str = "generic") -> httpx.Response:
    world.http.headers.update(CALLER)
    return await world.create(provider)


async def test_a_create_is_a_span_with_its_call_to_the_provider_beneath(service: Traced) -> None:
    invoice = (await create(service.world)).json()

    server, client = service.one_each()
    assert (trace_of(server), parent_of(server)) == (TRACE, THEIR_SPAN)
    assert (trace_of(client), parent_of(client)) == (TRACE, name_of(server))
    assert server.name == "POST /v1/invoices"
    assert {**(server.attributes or {})} == {
        "http.request.method": "POST",
        "http.route": "/v1/invoices",
        "http.response.status_code": 201,
        "gatehouse.request_id": (server.attributes or {})["gatehouse.request_id"],
        "gatehouse.caller": "sandbox",
        "gatehouse.provider": "generic",
        "gatehouse.invoice_id": invoice["id"],
    }
    assert client.name == "generic create"
    assert {**(client.attributes or {})} == {
        "http.request.method": "POST",
        "url.template": (client.attributes or {})["url.template"],
        "http.response.status_code": 201,
        "gatehouse.provider": "generic",
        "gatehouse.operation": "create",
        "gatehouse.outcome": "ok",
    }
    assert {server.status.status_code, client.status.status_code} == {StatusCode.UNSET}


async def test_the_provider_is_told_of_our_span_in_the_callers_trace(service: Traced) -> None:
    await create(service.world)
    _, client = service.one_each()
    [seen] = await service.world.requests("generic")
    assert seen["headers"]["traceparent"] == f"00-{TRACE}-{name_of(client)}-01"


async def test_every_line_of_the_log_names_the_span_of_its_request(service: Traced) -> None:
    with capture_logs() as logs:
        await create(service.world)
    server, _ = service.one_each()
    [line] = [line for line in logs if line["event"] == "request"]
    assert line["traceparent"] == f"00-{TRACE}-{name_of(server)}-01"


@pytest.mark.parametrize("odd", [{}, {"traceparent": "00-none-of-these-01"}])
async def test_a_caller_without_a_trace_begins_one(odd: dict[str, str], service: Traced) -> None:
    service.world.http.headers.update(odd)
    with capture_logs() as logs:
        await service.world.created("generic")
    server, client = service.one_each()
    assert server.parent is None
    assert trace_of(client) == trace_of(server) != TRACE
    [line] = [line for line in logs if line["event"] == "request"]
    assert line["traceparent"].startswith(f"00-{trace_of(server)}-{name_of(server)}-")


async def test_a_failing_provider_fails_its_span_by_the_code_of_the_outcome(service: Traced) -> None:
    await service.world.arm("generic", "create", "status:500")
    await create(service.world)
    server, client = service.one_each()
    attributes = client.attributes or {}
    assert (client.status.status_code, client.status.description) == (StatusCode.ERROR, "outcome_unknown")
    assert (attributes["gatehouse.outcome"], attributes["error.type"]) == ("outcome_unknown", "outcome_unknown")
    assert attributes["http.response.status_code"] == 500
    assert (server.status.status_code, server.status.description) == (StatusCode.ERROR, "outcome_unknown")
    assert (server.attributes or {})["http.response.status_code"] == 504


async def test_a_provider_that_gives_no_answer_has_no_status(service: Traced) -> None:
    await service.world.arm("generic", "create", "reset_after_accept")
    await create(service.world)
    _, client = service.one_each()
    assert client.status.description == "outcome_unknown"
    assert "http.response.status_code" not in (client.attributes or {})


async def test_a_mistake_of_the_caller_is_no_error_of_ours(service: Traced) -> None:
    await service.world.http.get("/v1/invoices/inv_none")
    [server] = service.spans(SpanKind.SERVER)
    assert server.name == "GET /v1/invoices/{id}"
    assert (server.attributes or {})["http.route"] == "/v1/invoices/{id}"
    assert (server.attributes or {})["gatehouse.code"] == "not_found"
    assert server.status.status_code is StatusCode.UNSET


async def test_each_try_is_a_span_of_its_own(service: Traced) -> None:
    invoice = await service.world.created("generic")
    service.exporter.clear()
    await service.world.arm("generic", "get", "status:500", times=1)
    await service.world.read(invoice["id"], refresh="true")
    outcomes = [(span.attributes or {})["gatehouse.outcome"] for span in service.spans(SpanKind.CLIENT)]
    assert len(outcomes) == 2
    assert (outcomes[0] != "ok", outcomes[1]) == (True, "ok")


async def test_nothing_secret_or_personal_is_in_a_span(service: Traced) -> None:
    invoice = await service.world.created("bluetape", metadata={"note": "a-private-note"})
    await service.world.http.get("/v1/invoices?order_id=a-private-order")
    await service.world.http.get("/nowhere/a-private-path?token=a-private-token", headers={"X-Odd": "a-private-header"})
    told = "".join(span.to_json() for span in service.exporter.get_finished_spans())
    assert "GET /v1/invoices" in told
    assert "a-private" not in told
    for held in (*SHOPPER.values(), invoice["client_secret"], service.world.http.headers["authorization"][7:]):
        assert held not in told


async def test_the_text_of_an_exception_is_in_no_span() -> None:
    tracer, exporter = keeping()

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        with asked(tracer, "acme", "get", "GET", "/pay/{}"):
            raise RuntimeError("a-private-text")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with capture_logs(), pytest.raises(RuntimeError):
        await Spanned(Observed(breaks), tracer)(scope, None, None)  # type: ignore[arg-type]
    client, server = exporter.get_finished_spans()
    assert "a-private-text" not in client.to_json() + server.to_json()
    assert (client.parent, server.status.status_code) == (server.context, StatusCode.ERROR)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_sign_of_life_is_no_span(path: str, service: Traced) -> None:
    await service.world.http.get(path, headers=CALLER)
    assert service.exporter.get_finished_spans() == ()


async def test_what_is_not_sampled_is_not_sent_and_is_named_all_the_same(tmp_path: Path) -> None:
    async with traced(tmp_path, ALWAYS_OFF) as service:
        await create(service.world)
        assert service.exporter.get_finished_spans() == ()
        [seen] = await service.world.requests("generic")
    _, trace, span, flags = seen["headers"]["traceparent"].split("-")
    assert (trace, flags) == (TRACE, "00")
    assert span != THEIR_SPAN


async def test_many_requests_at_once_do_not_mix(service: Traced) -> None:
    await asyncio.gather(*(service.world.created("generic") for _ in range(10)))
    servers = {name_of(span): trace_of(span) for span in service.spans(SpanKind.SERVER)}
    clients = {parent_of(span): trace_of(span) for span in service.spans(SpanKind.CLIENT)}
    assert len(servers) == 10
    assert clients == servers


async def test_what_no_request_waits_for_is_a_trace_of_its_own(tmp_path: Path) -> None:
    async with traced(tmp_path, worker=True) as service:
        await create(service.world)
        service.world.clock.pass_time(minutes=2)
        async with asyncio.timeout(10):
            while len(service.spans(SpanKind.CLIENT)) < 2:
                await asyncio.sleep(0.05)
        look = service.spans(SpanKind.CLIENT)[-1]
    assert (look.name, look.parent) == ("generic get", None)
    assert trace_of(look) != TRACE


async def test_without_a_tracer_the_callers_trace_goes_on_as_it_is(world: World) -> None:
    await create(world)
    [seen] = await world.requests("generic")
    assert seen["headers"]["traceparent"] == CALLER["traceparent"]


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, False),
        ({"OTEL_SDK_DISABLED": "True", **ENDPOINT}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"}, False),
    ],
)
def test_spans_are_sent_where_the_environment_says_so(environment: dict[str, str], sent: bool) -> None:
    assert wanted(environment) is sent


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_what_cannot_be_sent_is_told_once_and_stops_nothing(environment: dict[str, str], named: str) -> None:
    with capture_logs() as logs:
        assert tracer_of(environment) is None
    [line] = logs
    assert (line["event"], line["log_level"]) == ("spans.unsent", "warning")
    assert named in line["why"]


ASKS = """
import os, sys
sys.modules |= {name: None for name in sys.argv[1:]}
from app.observe import configure_logging, tracer_of
configure_logging("info")
print(tracer_of(os.environ))
"""


def said_in(environment: dict[str, str], *missing: str) -> str:
    """What a process finds in its environment, with these modules as if they were not installed."""
    return run(ASKS, environment, *missing)


def run(code: str, environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True).stdout


def test_without_the_extra_that_is_told_too() -> None:
    said = said_in(ENDPOINT, "opentelemetry.sdk")
    assert "gatehouse[otel] is not installed" in said
    assert said.endswith("None\n")


def test_a_setting_that_makes_no_sense_stops_nothing() -> None:
    said = said_in({**ENDPOINT, "OTEL_BSP_MAX_QUEUE_SIZE": "10"})
    assert "makes no sense" in said
    assert said.endswith("None\n")


def test_the_key_to_a_collector_is_not_told() -> None:
    said = said_in({**ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": "api key hidden"})
    assert "Tracer object" in said
    assert "hidden" not in said


@dataclass
class Collector:
    """What came in over OTLP: each span by its name, with the name of the service that it is of."""

    url: str
    spans: dict[str, Any] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)

    async def take(self, request: Request) -> Response:
        for found in ExportTraceServiceRequest.FromString(await request.body()).resource_spans:
            named = {each.key: each.value.string_value for each in found.resource.attributes}
            self.services.add(named["service.name"])
            self.spans |= {span.name: span for scope in found.scope_spans for span in scope.spans}
        return Response(status_code=200)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    with create_server(("127.0.0.1", 0)) as listener:
        collector = Collector(f"http://127.0.0.1:{listener.getsockname()[1]}")
        async with serving(Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])]), listener):
            yield collector


def said_when_served(folder: Path, **environment: str) -> str:
    """What a service, as it is run, says while it is asked for an invoice and until it has ended."""
    with served(folder, **environment) as it:
        headers = {"Authorization": "Bearer sandbox-admin-key", **CALLER}
        order = {"provider": "turinpay", "amount": "23.00", "currency": "EUR"}
        assert httpx.post(f"{it.url}/v1/invoices", json=order, headers=headers).status_code == 201
    return it.log.read_text()


async def test_a_service_as_it_is_run_sends_its_spans_before_it_ends(tmp_path: Path, collector: Collector) -> None:
    said = await asyncio.to_thread(said_when_served, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert collector.services == {"gatehouse"}
    server, client = collector.spans["POST /v1/invoices"], collector.spans["turinpay create"]
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, THEIR_SPAN)
    assert client.parent_span_id == server.span_id
    assert f"00-{TRACE}-{server.span_id.hex()}-01" in said


async def test_a_worker_as_it_is_run_sends_spans_too(tmp_path: Path, collector: Collector) -> None:
    url = f"sqlite:///{tmp_path}/gatehouse.db"
    async with played() as sandbox, open_crash(tmp_path, url, sandbox) as crash, caller(crash.service) as http:
        crash.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        crash.environment |= {"GATEHOUSE_WORKER": "off", "GATEHOUSE_DRAIN": "0,5"}
        await crash.start(http)
        assert (await crash.create(http, "generic-1")).status_code == 201
        assert crash.process is not None
        crash.process.send_signal(signal.SIGTERM)
        await crash.process.wait()
        assert "generic create" in collector.spans
        with sqlite3.connect(tmp_path / "gatehouse.db") as database:
            database.execute("UPDATE invoices SET due_at = 0")
        crash.process = await spawn("worker", cwd=tmp_path, environment=crash.environment)
        async with asyncio.timeout(15):
            while "generic get" not in collector.spans:
                await asyncio.sleep(0.05)


def test_each_of_several_processes_sends_spans_too() -> None:
    environment = {
        **ENDPOINT,
        "GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": "k",
        "GATEHOUSE_API_KEYS": "shop:write:0123456789abcdef",
        "GATEHOUSE_SECRET_KEY": "k" * 32,
    }
    code = "from app.main import from_environment; print([each.cls for each in from_environment().user_middleware][0])"
    assert "Spanned" in run(code, environment)


def test_a_service_that_names_no_collector_loads_nothing_that_could_send(tmp_path: Path) -> None:
    said = said_when_served(tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert "| " in said
    assert "opentelemetry.trace" in said, "the API is a part of FastAPI"
    assert "opentelemetry.sdk" not in said
    assert "opentelemetry.exporter" not in said
    assert CALLER["traceparent"] in said


def test_the_name_of_the_service_can_be_set() -> None:
    code = "from app.observe.sending import tracer; print(tracer().resource.attributes['service.name'])"
    for environment, name in (
        ({}, "gatehouse"),
        ({"OTEL_SERVICE_NAME": "tills"}, "tills"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=tills"}, "tills"),
    ):
        assert run(code, environment) == f"{name}\n"
