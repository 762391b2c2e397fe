"""Whatever a peer answers is read as httpx reads it, or is `MaybeSent`, and the next request fares well."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.wire import MaybeSent, Wire
from tests.wire_peer import OK, Line, Peer, open_peer, serving

FRAMING = {"content-length", "transfer-encoding", "content-encoding", "connection", "upgrade", "proxy-connection"}
ENDS: dict[str, Callable[[Line], None]] = {"close": Line.close, "reset": Line.reset, "stay": lambda _: None}

quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Stage:
    """A loop that keeps running from one example to the next, with a peer and both clients on it."""

    runner: asyncio.Runner
    peer: Peer
    wire: Wire
    stock: httpx.AsyncHTTPTransport

    def answers(self, *segments: bytes, end: str = "stay") -> None:
        async def script(line: Line) -> None:
            while True:
                await line.request()
                await line.send(*self.segments)
                ENDS[self.end](line)

        self.segments, self.end, self.peer.script = segments, end, script

    def begin_anew(self) -> None:
        for line in self.peer.lines:
            line.transport.abort()
        for task in self.peer.tasks:
            task.cancel()
        self.peer.lines.clear()
        self.peer.tasks.clear()

    def ask(self, client: httpx.AsyncBaseTransport, method: str = "GET", seconds: float = 5.0) -> httpx.Response:
        async def whole() -> httpx.Response:
            response = await client.handle_async_request(request)
            await response.aread()
            return response

        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        request = httpx.Request(method, self.peer.url, extensions={"seconds": seconds, "timeout": timeout})
        return self.runner.run(whole())


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def opened() -> Stage:
            peer = await stack.enter_async_context(open_peer(serving))
            wire = await stack.enter_async_context(Wire())
            stock = await stack.enter_async_context(httpx.AsyncHTTPTransport())
            return Stage(runner, peer, wire, stock)

        yield runner.run(opened())
        runner.run(stack.aclose())


tokens = st.text("abcdefghijklmnopqrstuvwxyzABCDEFXYZ0123456789-_.!#$%&'*+^`|~", min_size=1, max_size=12)
values = st.text([chr(code) for code in [*range(0x20, 0x7F), *range(0xA0, 0x100)]], max_size=20).map(str.strip)
fields = st.lists(st.tuples(tokens.filter(lambda name: name.lower() not in FRAMING), values), max_size=6)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """A request's method, a well-formed answer to it, and how the connection ends after it."""
    method = draw(st.sampled_from(["GET", "GET", "POST", "HEAD"]))
    status = draw(st.sampled_from([200, 201, 202, 203, 204, 206, 299, 301, 304, 400, 404, 409, 429, 500, 503, 599]))
    hints = draw(st.sampled_from([b"", b"HTTP/1.1 100 Go On\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n" * 2]))
    head = [f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', 'Not At All', '']))}"]
    head += [f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}" for name, value in draw(fields)]
    chunks = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    if framing == "length":
        head.append(f"content-LENGTH: {sum(map(len, chunks))}")
        body = b"".join(chunks)
    elif framing == "chunked":
        head.append("Transfer-encoding: chunked")
        late = draw(st.sampled_from([b"", b"X-Late: 1\r\n"]))
        body = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + late + b"\r\n"
    else:
        body = b"".join(chunks)
    if method == "HEAD" or status in (204, 304):
        body = b""
    answer = hints + "\r\n".join([*head, "", ""]).encode("latin-1") + body
    return method, answer, "close" if framing == "end" else draw(st.sampled_from(["close", "stay"]))


def cut(answer: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(answer), *(place % (len(answer) + 1) for place in places)})
    return [answer[start:end] for start, end in pairwise(edges)]


@quick
@given(conversations(), st.lists(st.integers(0, 1000), max_size=6))
def test_a_well_formed_answer_is_read_as_httpx_reads_it(stage: Stage, conversation, places) -> None:
    method, answer, end = conversation
    stage.begin_anew()
    stage.answers(*cut(answer, places), end=end)
    ours, theirs = stage.ask(stage.wire, method), stage.ask(stage.stock, method)
    assert ours.status_code == theirs.status_code
    assert ours.headers.raw == theirs.headers.raw
    assert ours.content == theirs.content


WELL_FORMED = [
    OK,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>",
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n{}\r\n",
]
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"0", b"-1", b"99999999999999999999", b"HTTP/1.1 200 OK\r\n"]
PIECES += [b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\n", b"Connection: upgrade\r\n"]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    answer = bytearray(draw(st.sampled_from(WELL_FORMED)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(answer)))
        answer[place : place + draw(st.integers(0, 3))] = draw(st.sampled_from(PIECES) | st.binary(max_size=3))
    return bytes(answer)


@settings(quick, max_examples=250)
@given(spoilt() | st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=5), st.sampled_from([*ENDS]))
def test_any_bytes_are_an_answer_or_a_doubt(stage: Stage, answer: bytes, places: list[int], end: str) -> None:
    stage.begin_anew()
    stage.answers(OK)
    stage.ask(stage.wire)
    stage.answers(*cut(answer, places), end=end)
    began = stage.runner.get_loop().time()
    with suppress(MaybeSent):
        stage.ask(stage.wire, seconds=0.04)
    assert stage.runner.get_loop().time() - began < 2
    assert stage.peer.times_seen(b"GET / ") == 2
    stage.answers(OK)
    assert stage.ask(stage.wire).content == b"ok"
