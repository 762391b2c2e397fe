"""What callers may send: how much, and how long it may take; and no word of theirs comes back in an address of ours."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.admission import AT_WORK, Admission, Seat
from app.api.bodies import read
from app.aside import SEAT
from app.configured import sandbox_keys
from app.domain.errors import Malformed, Overloaded
from app.main import create_app
from app.server import Patient, configured
from app.settings import SANDBOX_KEY, Settings
from app.simulator import credentials
from tests.callers import bearer, is_problem, world_of_roles
from tests.world import ORDERS, SECRET_KEY, SERVICE, World

pytestmark = pytest.mark.anyio

KEY = f"Authorization: Bearer {SANDBOX_KEY}\r\n"
SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
EVIL = "evil.example"


class Impatient(Patient):
    longest_seconds = 0.3


@dataclass
class Sender:
    """A caller whose body comes piece by piece, as the test says."""

    admission: Admission
    pieces: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)

    async def receive(self) -> Message:
        piece = await self.pieces.get()
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    def begin(self) -> "asyncio.Task[bytes]":
        SEAT.set(Seat(self.admission))
        return asyncio.create_task(read(Request({"type": "http", "method": "POST", "headers": []}, self.receive)))

    async def send(self, *pieces: bytes | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)
        for _ in range(5):
            await asyncio.sleep(0)


def admission(**limits: Any) -> Admission:
    return Admission(FastAPI(), **limits)


async def test_a_body_that_takes_too_long_is_not_waited_for() -> None:
    door = admission(longest_seconds=0.05)
    slow = Sender(door)
    reading = slow.begin()
    await slow.send(b"some of it")
    with pytest.raises(Malformed):
        await reading
    assert (door.coming_in, door.inside) == (0, 0)


async def test_a_body_on_its_way_keeps_nobody_out() -> None:
    door = admission(at_once=1)
    slow, quick = Sender(door), Sender(door)
    reading = slow.begin()
    await slow.send(b"a")
    assert door.inside == 0, "its place is free meanwhile"
    passing = quick.begin()
    await quick.send(b"c", None)
    assert await passing == b"c"
    door.move(-1, -1)
    await slow.send(b"b", None)
    assert await reading == b"ab"
    assert (door.coming_in, door.inside) == (0, 1)


async def test_whoever_has_sent_it_goes_first_and_must_find_a_place() -> None:
    door = admission(at_work=1, burst_seconds=0.1)
    slow, quick, other = Sender(door), Sender(door), Seat(door)
    first, second = slow.begin(), quick.begin()
    await slow.send(b"a")
    await quick.send(b"b")
    await other.take()
    later = asyncio.create_task(Seat(door).take())
    await quick.send(None)
    assert not second.done()
    other.leave()
    assert await second == b"b"
    assert (door.working, len(door.line), later.done()) == (1, 1, False)
    await slow.send(None)
    for refused in (first, later):
        with pytest.raises(Overloaded):
            await refused


async def test_bodies_on_their_way_fill_only_so_much_memory() -> None:
    door = admission(most_coming_in=100)
    slow, large, later = Sender(door), Sender(door), Sender(door)
    first, second = slow.begin(), large.begin()
    await slow.send(b"x" * 60)
    await large.send(b"x" * 60)
    with pytest.raises(Overloaded):
        await second
    await slow.send(b"x", None)
    assert len(await first) == 61
    third = later.begin()
    await later.send(b"x" * 60, None)
    assert len(await third) == 60


@asynccontextmanager
async def listening(database_url: str, protocol: type[Patient]) -> AsyncIterator[int]:
    """The service on a socket, as it is served; the port."""
    given = Settings(_env_file=None, database_url=database_url, secret_key=SECRET_KEY, worker=False, rate_limit="off")
    keys = sandbox_keys(given, "127.0.0.1")
    app = create_app(
        given.model_copy(update={"allow_private_networks": True}),
        provider_settings=credentials("http://127.0.0.1:9"),
        keys=keys,
        public_url=SERVICE,
    )
    async with served(app, protocol) as port:
        yield port


@asynccontextmanager
async def served(app: Any, protocol: type[Patient]) -> AsyncIterator[int]:
    """The port; what is written there and not read, the kernel keeps little of."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        server = uvicorn.Server(configured(app, "127.0.0.1", 0, http=protocol, timeout_graceful_shutdown=1))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([listener])
        beat = asyncio.create_task(server.main_loop())
        yield listener.getsockname()[1]
        server.should_exit = True
        await beat
        await server.shutdown([listener])


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    async with listening(f"sqlite:///{tmp_path}/gatehouse.db", Patient) as port:
        yield port


@pytest.fixture
async def hurried(tmp_path: Path) -> AsyncIterator[int]:
    """The port of one that waits for nothing."""
    async with listening(f"sqlite:///{tmp_path}/gatehouse.db", Impatient) as port:
        yield port


async def told(port: int, *pieces: str, pause: float = 0.05) -> str:
    """What comes back for these bytes until the service hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece.encode())
        await asyncio.sleep(pause)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer.decode()


def is_malformed(answer: str) -> None:
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert headers.items() >= SAFE.items()
    said = json.loads(body)
    assert (said["code"], said["request_id"]) == ("invalid_request", headers["x-request-id"])


async def test_headers_that_are_too_long_are_refused(port: int) -> None:
    head = f"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: {'x' * 33 * 1024}\r\n\r\n"
    is_malformed(await told(port, head))


async def test_headers_without_end_are_refused(port: int) -> None:
    is_malformed(await told(port, "GET /livez HTTP/1.1\r\nX-Long: ", *["x" * 10_000] * 5, pause=0.02))


async def test_many_small_headers_are_long_too(port: int) -> None:
    lines = "".join(f"X-{number}: {'x' * 50}\r\n" for number in range(800))
    is_malformed(await told(port, f"GET /livez HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))


async def test_an_address_that_is_too_long_is_refused(port: int) -> None:
    is_malformed(await told(port, f"GET /v1/invoices?{'x' * 40_000} HTTP/1.1\r\nHost: a\r\n\r\n"))


async def test_what_is_no_http_is_refused_as_a_problem(port: int) -> None:
    is_malformed(await told(port, "NONSENSE\r\n\r\n"))


async def test_headers_that_are_long_enough_pass(port: int) -> None:
    head = f"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: {'x' * 31 * 1024}\r\n\r\n"
    assert (await told(port, head)).startswith("HTTP/1.1 200")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert (await client.get("/livez", headers={"X-Long": "x" * 20_000})).status_code == 200


async def test_bodies_may_be_longer_than_headers(port: int) -> None:
    body = json.dumps({"provider": "generic", "metadata": {"a": "x" * 200_000}})
    head = f"POST /v1/invoices HTTP/1.1\r\nHost: a\r\n{KEY}Content-Type: application/json\r\nConnection: close\r\n"
    answer = await told(port, f"{head}Content-Length: {len(body)}\r\n\r\n", body[:100_000], body[100_000:])
    assert answer.startswith("HTTP/1.1 422")


@pytest.mark.parametrize("sent", ["", "GET /livez HTTP/1.1\r\nHost: a\r\n", "GET /li"])
async def test_headers_that_take_too_long_are_not_waited_for(sent: str, hurried: int) -> None:
    assert await told(hurried, sent) == ""


async def test_headers_that_trickle_are_not_waited_for(hurried: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hurried)
    began = asyncio.get_running_loop().time()
    while not (reader.at_eof() or reader.exception()):
        writer.write(b"G")
        await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - began < 3
    writer.close()


async def test_nobody_is_made_to_send_what_will_not_be_read(hurried: int) -> None:
    """Without a key the answer comes before the body, which may then come no longer than any other."""
    head = "POST /v1/invoices HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    answer = await told(hurried, head, "{")
    assert answer.startswith("HTTP/1.1 401")
    assert answer.count("HTTP/1.1") == 1


async def test_a_connection_goes_on_after_what_was_not_read(port: int) -> None:
    first = "POST /v1/invoices HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    answer = await told(port, first, "hello", "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert re.findall(r"HTTP/1.1 (\d+)", answer) == ["401", "200"]


async def test_an_answer_that_does_not_wait_for_the_body_is_not_cut_off(hurried: int) -> None:
    head = f"GET /v1/events?wait=1 HTTP/1.1\r\nHost: a\r\n{KEY}Content-Length: 100\r\n\r\n"
    assert (await told(hurried, head)).startswith("HTTP/1.1 200")


async def test_an_answer_that_takes_long_is_not_cut_off(hurried: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{hurried}", headers=bearer("admin")) as client:
        answer = await client.get("/v1/events", params={"wait": 1})
        assert answer.status_code == 200
        await asyncio.sleep(0.5)
        assert (await client.get("/livez")).status_code == 200


CHUNKED = f"POST /v1/invoices HTTP/1.1\r\nHost: a\r\n{KEY}Content-Type: application/json\r\n"
CHUNKED += "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
ENDLESS = {"many": [f"X-More: {'x' * 10_000}\r\n"] * 5, "one": ["X-More: ", *["x" * 10_000] * 5]}


@pytest.mark.parametrize("trailers", ENDLESS)
async def test_trailers_without_end_are_refused(port: int, trailers: str) -> None:
    is_malformed(await told(port, CHUNKED, *ENDLESS[trailers], pause=0.02))


async def test_trailers_that_are_too_long_at_once_are_refused(port: int) -> None:
    is_malformed(await told(port, CHUNKED + "".join(ENDLESS["many"]) + "\r\n"))


@pytest.mark.parametrize("trailers", ENDLESS)
async def test_whoever_sends_them_after_the_answer_gets_no_second_one(port: int, trailers: str) -> None:
    unknown = CHUNKED.replace("/v1/invoices", "/nowhere")
    answer = await told(port, unknown, *ENDLESS[trailers], pause=0.02)
    assert answer.startswith("HTTP/1.1 404")
    assert answer.count("HTTP/1.1") == 1


async def test_a_chunk_whose_size_never_comes_is_refused(port: int) -> None:
    is_malformed(await told(port, CHUNKED.removesuffix("0\r\n"), "1;x=", *["x" * 10_000] * 5, pause=0.02))


async def test_small_pieces_of_a_body_may_come_in_many_chunks(port: int) -> None:
    body = "1\r\n{\r\n" + "1\r\n \r\n" * 10_000 + "1\r\n}\r\n0\r\nX-Late: 1\r\n\r\n"
    head = CHUNKED.removesuffix("2\r\n{}\r\n0\r\n")
    answer = await told(port, head, body, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert re.findall(r"HTTP/1.1 (\d+)", answer) == ["422", "200"]


async def test_what_comes_after_a_body_is_no_header() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        await JSONResponse(request.headers.getlist("x-forwarded-for"))(scope, receive, send)

    head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9\r\n"
    body = "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
    async with served(echo, Patient) as port:
        answer = await told(port, head + body)
    assert answer.endswith('["203.0.113.9"]')


LARGE = "/docs/static/swagger-ui-bundle.js"


@asynccontextmanager
async def asking(port: int, *paths: str, buffer: int = 1) -> AsyncIterator[socket.socket]:
    """A connection on which these are asked for at once, and nothing is read."""
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        caller.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(caller, ("127.0.0.1", port))
        await loop.sock_sendall(caller, "".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths).encode())
        yield caller


async def read_slowly(caller: socket.socket, size: int, pause: float = 0) -> int:
    """How much of so many bytes comes."""
    loop, came = asyncio.get_running_loop(), 0
    with suppress(ConnectionError):
        while came < size and (piece := await asyncio.wait_for(loop.sock_recv(caller, 1 << 16), 2)):
            came += len(piece)
            await asyncio.sleep(pause)
    return came


async def test_whoever_does_not_read_an_answer_is_not_waited_for(hurried: int) -> None:
    async with asking(hurried, LARGE) as caller:
        await asyncio.sleep(1.2)
        assert await read_slowly(caller, 1_000_000) < 500_000


async def test_nothing_more_is_written_to_whoever_is_gone(hurried: int, caplog: pytest.LogCaptureFixture) -> None:
    async with asking(hurried, LARGE, "/livez"):
        await asyncio.sleep(1.2)
    assert caplog.records == []


async def test_whoever_reads_slowly_is(hurried: int) -> None:
    async with asking(hurried, LARGE, buffer=65536) as caller:
        assert await read_slowly(caller, 1_000_000, pause=0.02) >= 1_000_000


async def test_answers_that_are_not_read_keep_nobody_out(port: int) -> None:
    async with AsyncExitStack() as crowd:
        for _ in range(AT_WORK):
            await crowd.enter_async_context(asking(port, *["/openapi.json"] * 3))
        for _ in range(AT_WORK):
            await crowd.enter_async_context(asking(port, LARGE, "/openapi.json"))
        await asyncio.sleep(0.5)
        began = asyncio.get_running_loop().time()
        answer = await told(port, f"GET /v1/providers HTTP/1.1\r\nHost: a\r\n{KEY}Connection: close\r\n\r\n")
        assert answer.startswith("HTTP/1.1 200")
        assert asyncio.get_running_loop().time() - began < 1


async def test_answers_are_given_in_turn_once_they_are_read(port: int) -> None:
    async with asking(port, "/openapi.json", "/openapi.json", "/livez") as caller:
        await asyncio.sleep(0.2)
        await asyncio.get_running_loop().sock_sendall(
            caller, b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(sock=caller)
        answers = (await asyncio.wait_for(reader.read(), 5)).decode()
        writer.close()
    assert re.findall(r"HTTP/1.1 (\d+)", answers) == ["200"] * 4
    assert re.findall(r'\r\n\r\n{"(\w+)"', answers) == ["openapi", "openapi", "status", "status"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_of_roles(Path(tmp_path_factory.mktemp("incoming")), cors_origins="https://shop.example") as world:
        yield world


NEVER = [
    "x",
    "inv_",
    "inv_01h455vb4pex5vsknk084sn02q'",
    "INV_01H455VB4PEX5VSKNK084SN02Q",
    "%00",
    "evt_%C3%A4",
    "a" * 3000,
]
ASKED_BY_ID = [
    ("GET", "/v1/invoices/{id}"),
    ("POST", "/v1/invoices/{id}/checkout"),
    ("POST", "/v1/invoices/{id}/cancel"),
    ("GET", "/v1/invoices/{id}/trace"),
    ("GET", "/v1/invoices/{id}/events"),
    ("GET", "/v1/events/{id}"),
    ("POST", "/v1/deliveries/{id}/redeliver"),
    ("GET", "/v1/providers/{id}"),
    ("GET", "/v1/providers/{id}/assets"),
    ("GET", "/v1/providers/{id}/questionnaire"),
    ("POST", "/webhooks/{id}"),
    ("GET", "/problems/{id}"),
]


@pytest.mark.parametrize("id", NEVER)
@pytest.mark.parametrize(("method", "path"), ASKED_BY_ID)
async def test_an_id_that_never_could_be_one_is_unknown(method: str, path: str, id: str, world: World) -> None:
    answer = await world.http.request(method, path.format(id=id), headers={"Idempotency-Key": "k"})
    is_problem(answer, 404, "not_found")


ANSWERS = [
    ("GET", "/livez", {}, 200),
    ("GET", "/openapi.json", {}, 200),
    ("GET", "/docs", {}, 200),
    ("GET", "/docs/static/swagger-ui.css", {}, 200),
    ("GET", "/problems/forbidden", {"Accept": "text/html"}, 200),
    ("GET", "/metrics", bearer("read"), 200),
    ("GET", "/v1/providers", bearer("read"), 200),
    ("GET", "/v1/invoices/{id}", {**bearer("read"), "If-None-Match": "{etag}"}, 304),
    ("GET", "/v1/providers", {}, 401),
    ("GET", "/v1/invoices/{id}/trace", bearer("read"), 403),
    ("GET", "/v1/nothing", {}, 404),
    ("DELETE", "/v1/invoices", {}, 405),
    ("POST", "/v1/invoices", {**bearer("write"), "Content-Type": "text/plain"}, 415),
    ("GET", "/pay/{client_secret}", {}, 303),
    ("GET", "/pay/nonsense", {}, 401),
    ("HEAD", "/pay/{client_secret}", {}, 200),
    ("POST", "/webhooks/sellapp", {}, 401),
    ("OPTIONS", "/v1/invoices", {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}, 200),
    ("OPTIONS", "/v1/invoices", {"Origin": f"https://{EVIL}", "Access-Control-Request-Method": "POST"}, 400),
    ("OPTIONS", "/v1/invoices", {}, 405),
]


@pytest.fixture(scope="module")
async def made(world: World) -> dict[str, Any]:
    return await world.created("generic")


@pytest.mark.parametrize(("method", "path", "headers", "status"), ANSWERS)
async def test_every_answer_is_dressed(
    method: str, path: str, headers: dict[str, str], status: int, world: World, made: dict[str, Any]
) -> None:
    names = {
        **made,
        "etag": (await world.http.get(f"/v1/invoices/{made['id']}", headers=bearer("read"))).headers["etag"],
    }
    sent = {name: value.format(**names) for name, value in headers.items()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url=SERVICE) as nobody:
        answer = await nobody.request(method, path.format(**names), headers=sent)
    assert answer.status_code == status, answer.text
    assert answer.headers.items() >= SAFE.items()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-request-id"]
    if path.startswith("/v1/"):
        assert answer.headers["cache-control"] == "no-store"


HOSTILE = {"Host": EVIL, "X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "javascript", "Forwarded": f"host={EVIL}"}
GIVING_ADDRESSES = [
    ("POST", "/v1/invoices"),
    ("GET", "/v1/invoices/{id}"),
    ("GET", "/v1/invoices"),
    ("POST", "/v1/invoices/{id}/checkout"),
    ("GET", "/v1/invoices/{id}/events"),
    ("GET", "/v1/invoices/{id}/trace"),
    ("GET", "/v1/events"),
    ("GET", "/v1/deliveries"),
    ("GET", "/v1/providers"),
    ("POST", "/v1/invoices?dry_run=true"),
    ("GET", "/pay/{client_secret}"),
    ("GET", "/pay/nonsense"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/"),
    ("GET", "/v1/invoices/"),
    ("GET", "/problems/forbidden"),
    ("POST", "/v1/nothing"),
    ("POST", "/webhooks/sellapp"),
]


@pytest.mark.parametrize(("method", "path"), GIVING_ADDRESSES)
async def test_no_address_of_ours_is_made_from_the_host_that_was_asked_for(
    method: str, path: str, world: World, made: dict[str, Any]
) -> None:
    whole = {"provider": "generic", **ORDERS["generic"]}
    body = whole if path in {"/v1/invoices", "/v1/invoices?dry_run=true"} else {}
    sent = body if method == "POST" else None
    answer = await world.http.request(method, path.format(**made), headers=HOSTILE, json=sent)
    assert answer.status_code < 500
    assert EVIL not in answer.text
    assert not any(EVIL in value for value in answer.headers.values())


async def test_what_providers_are_given_is_not_made_from_it_either(world: World) -> None:
    body = {"provider": "turinpay", **ORDERS["turinpay"]}
    assert (await world.http.post("/v1/invoices", json=body, headers=HOSTILE)).status_code == 201
    assert EVIL not in str(await world.requests("turinpay"))
