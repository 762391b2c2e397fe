"""What the peer saw of a request is held against what the wire says became of it."""

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from app.wire import MaybeSent, NotSent, Proxied, Wire
from tests.wire_peer import OK, Found, Line, Names, Peer, Script, answering, open_peer, serving

MARK = b"only-once"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def wire(trust: ssl.SSLContext) -> AsyncIterator[Wire]:
    async with Wire(ssl=trust) as wire:
        yield wire


def served_by(authority: trustme.CA, *names: str, expires: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=expires).configure_cert(context)
    return context


async def post(wire: httpx.AsyncBaseTransport, url: str, mark: bytes = MARK, **extensions: float) -> httpx.Response:
    request = httpx.Request("POST", url, content=mark, extensions={"seconds": 5.0, **extensions})
    return await wire.handle_async_request(request)


async def get(wire: httpx.AsyncBaseTransport, url: str, **extensions: float) -> httpx.Response:
    return await wire.handle_async_request(httpx.Request("GET", url, extensions={"seconds": 5.0, **extensions}))


async def settled(peer: Peer, still_open: int = 0) -> None:
    """Let the peer see what the wire has done; it closes all connections but these."""
    await asyncio.sleep(0.002)
    await until(lambda: peer.open <= still_open)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not happened():
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def black_hole(address: str, port: int) -> Iterator[None]:
    """Nobody takes up a connection to this address."""
    with socket.create_server((address, port), backlog=0) as server, contextlib.ExitStack() as crowd:
        for _ in range(4):
            sock = crowd.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        yield


# What is never sent


async def test_a_refused_connection_is_not_sent(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotSent) as caught:
        await post(wire, f"http://127.0.0.1:{port}")
    assert caught.value.why == "refused"


async def test_an_unknown_name_is_not_sent(wire: Wire) -> None:
    with pytest.raises(NotSent) as caught:
        await post(wire, "http://nobody.invalid")
    assert caught.value.why in {"dns", "timeout"}


async def test_a_connection_that_nobody_takes_up_is_not_sent(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with black_hole("127.0.0.1", port), pytest.raises(NotSent) as caught:
        await asyncio.wait_for(post(wire, f"http://127.0.0.1:{port}", connect_seconds=0.1), 3)
    assert caught.value.why == "timeout"


@pytest.mark.parametrize("flaw", ["wrong name", "expired", "unknown authority"])
async def test_a_certificate_that_does_not_hold_is_not_sent(wire: Wire, authority: trustme.CA, flaw: str) -> None:
    tls = {
        "wrong name": lambda: served_by(authority, "elsewhere.example"),
        "expired": lambda: served_by(authority, "127.0.0.1", expires=datetime(2020, 1, 1, tzinfo=UTC)),
        "unknown authority": lambda: served_by(trustme.CA(), "127.0.0.1"),
    }[flaw]()
    async with open_peer(serving, tls=tls) as peer:
        with pytest.raises(NotSent) as caught:
            await post(wire, peer.url)
        await settled(peer)
        assert caught.value.why == "tls"
        assert not any(line.seen for line in peer.lines)


async def silent(line: Line) -> None:
    await line.hang()


async def talks_first(line: Line) -> None:
    await line.send(b"220 mail.example ESMTP\r\n")
    await line.hang()


async def hangs_up_first(line: Line) -> None:
    line.close()


class Leisurely(asyncio.SelectorEventLoop):
    """A loop that hands a connection over a while after it is made."""

    async def create_connection(self, *args, **kwargs):
        made = await super().create_connection(*args, **kwargs)
        await asyncio.sleep(0.03)
        return made


@pytest.mark.parametrize("script", [talks_first, hangs_up_first])
def test_a_connection_that_is_dead_when_it_is_handed_over_is_not_sent_to(trust: ssl.SSLContext, script: Script) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust) as wire, open_peer(script) as peer:
            with pytest.raises(NotSent) as caught:
                await asyncio.wait_for(post(wire, peer.url), 3)
            await settled(peer)
            assert caught.value.why == "refused"
            assert not any(line.seen for line in peer.lines)

    with asyncio.Runner(loop_factory=Leisurely) as runner:
        runner.run(conversation())


@pytest.mark.parametrize(("script", "why"), [(silent, "timeout"), (talks_first, "tls"), (hangs_up_first, "refused")])
async def test_a_handshake_that_does_not_end_is_not_sent(wire: Wire, script: Script, why: str) -> None:
    async with open_peer(script) as peer:
        with pytest.raises(NotSent) as caught:
            await post(wire, f"https://127.0.0.1:{peer.port}", connect_seconds=0.2)
        await settled(peer)
        assert caught.value.why == why
        assert peer.times_seen(MARK) == peer.times_seen(b"POST") == 0


async def test_a_wait_for_a_connection_that_is_not_given_is_not_sent(trust: ssl.SSLContext) -> None:
    async with Wire(ssl=trust, connections=1) as wire, open_peer(silent) as peer:
        first = asyncio.create_task(post(wire, peer.url, b"first", seconds=0.2))
        await asyncio.sleep(0)
        with pytest.raises(NotSent) as caught:
            await post(wire, peer.url, seconds=0.1)
        assert caught.value.why == "pool"
        with pytest.raises(MaybeSent):
            await first
        assert peer.times_seen(MARK) == 0


async def test_a_deadline_that_has_passed_is_not_sent(wire: Wire) -> None:
    async with open_peer(serving) as peer:
        await post(wire, peer.url, b"first")
        with pytest.raises(NotSent) as caught:
            await post(wire, peer.url, seconds=0.0)
        await settled(peer, still_open=1)
        assert caught.value.why == "timeout"
        assert peer.times_seen(MARK) == 0


ILLEGAL: dict[str, dict[str, Any]] = {
    "a line feed in a value": {"headers": [(b"X-Note", b"a\r\nX-Other: b")]},
    "a null in a value": {"headers": [(b"X-Note", b"a\0b")]},
    "a carriage return in a value": {"headers": [(b"X-Note", b"a\rb")]},
    "a line feed in a name": {"headers": [(b"X-Note: a\r\nX-Other", b"b")]},
    "a space in a name": {"headers": [(b"X Note", b"b")]},
    "an empty name": {"headers": [(b"", b"b")]},
    "a line feed in the host": {"headers": [(b"Host", b"a\r\nX-Other: b")]},
    "a space in the method": {"method": "GET /other HTTP/1.1\r\nX-Other:"},
    "no method": {"method": ""},
    "a method that can't be encoded": {"method": "PÖST"},
    "another scheme": {"url": "ftp://127.0.0.1:{port}/"},
    "no host": {"url": "http:///"},
    "a host that can't be encoded": {"url": "http://" + "a" * 64 + "/"},
    "a port that can't be": {"url": "http://127.0.0.1:{port}99999/"},
    "a deadline that is no number": {"extensions": {"seconds": "soon"}},
}


@pytest.mark.parametrize("flaw", ILLEGAL)
async def test_what_http_has_no_form_for_is_not_sent(wire: Wire, flaw: str) -> None:
    async with open_peer(serving) as peer:
        parts = {"method": "POST", "url": peer.url, "content": MARK} | ILLEGAL[flaw]
        request = httpx.Request(**parts | {"url": parts["url"].format(port=peer.port)})
        with pytest.raises(NotSent):
            await wire.handle_async_request(request)
        await settled(peer)
        assert not any(line.seen for line in peer.lines)


async def test_a_target_with_a_line_feed_is_not_sent(wire: Wire) -> None:
    class Crafted(httpx.URL):
        raw_path = b"/ HTTP/1.1\r\nX-Other: b\r\n\r\n"

    async with open_peer(serving) as peer:
        request = httpx.Request("GET", peer.url)
        request.url = Crafted(peer.url)
        with pytest.raises(NotSent):
            await wire.handle_async_request(request)
        assert peer.lines == []


async def test_a_body_that_breaks_while_it_is_made_is_not_sent(wire: Wire) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield MARK
        raise LookupError

    async with open_peer(serving) as peer:
        with pytest.raises(NotSent):
            await wire.handle_async_request(httpx.Request("POST", peer.url, content=body()))
        assert peer.lines == []


# What may have been sent

HEAD = b"HTTP/1.1 200 OK\r\n"
CLOSE, RESET = Line.close, Line.reset


def half_close(line: Line) -> None:
    line.transport.write_eof()


BROKEN: dict[str, tuple[str, Script]] = {
    "no answer": ("timeout", answering()),
    "a dripping status": ("timeout", answering(b"HTTP/1.1 200 ", *[b"O"] * 99, pause=0.01)),
    "a dripping head": ("timeout", answering(HEAD, *[b"X-Slow: 1\r\n"] * 99, pause=0.01)),
    "a dripping body": ("timeout", answering(HEAD + b"Content-Length: 100\r\n\r\n", *[b"."] * 99, pause=0.01)),
    "a body that stops": ("timeout", answering(HEAD + b"Content-Length: 100\r\n\r\n...")),
    "early hints and no more": ("timeout", answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")),
    "a close": ("closed", answering(then=CLOSE)),
    "a reset": ("closed", answering(then=RESET)),
    "a half close": ("closed", answering(then=half_close)),
    "a close in the head": ("closed", answering(HEAD, then=CLOSE)),
    "a close after a continue": ("closed", answering(b"HTTP/1.1 100 Continue\r\n\r\n", then=CLOSE)),
    "a close before the body": ("closed", answering(HEAD + b"Content-Length: 100\r\n\r\n", then=CLOSE)),
    "a close in the body": ("closed", answering(HEAD + b"Content-Length: 100\r\n\r\n...", then=CLOSE)),
    "a close in a chunk": ("closed", answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n...", then=CLOSE)),
    "a close between chunks": (
        "closed",
        answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n...\r\n", then=CLOSE),
    ),
    "a reset after the head": ("closed", answering(HEAD + b"Content-Length: 100\r\n\r\n", pause=0.02, then=RESET)),
    "a reset in a body without length": ("closed", answering(HEAD + b"\r\n...", pause=0.02, then=RESET)),
    "a banner": ("unreadable", answering(b"220 mail.example ESMTP\r\n")),
    "HTTP/0.9": ("unreadable", answering(b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok")),
    "HTTP/2": ("unreadable", answering(b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok")),
    "a status of two digits": ("unreadable", answering(b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok")),
    "a status of four digits": ("unreadable", answering(b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok")),
    "a status below any": ("unreadable", answering(b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok")),
    "a status that is a word": ("unreadable", answering(b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok")),
    "bare line feeds": ("unreadable", answering(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")),
    "two lengths": ("unreadable", answering(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc")),
    "one length twice": ("unreadable", answering(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok")),
    "a list of lengths": ("unreadable", answering(HEAD + b"Content-Length: 2, 2\r\n\r\nok")),
    "a negative length": ("unreadable", answering(HEAD + b"Content-Length: -2\r\n\r\nok")),
    "a length and chunks": (
        "unreadable",
        answering(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    "chunks and a length": (
        "unreadable",
        answering(HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    "chunks twice": (
        "unreadable",
        answering(HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    "chunks of an unknown coding": (
        "unreadable",
        answering(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    "an unknown transfer coding": ("unreadable", answering(HEAD + b"Transfer-Encoding: gzip\r\n\r\nok", then=CLOSE)),
    "a chunk without a size": (
        "unreadable",
        answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\nsize\r\nok\r\n0\r\n\r\n"),
    ),
    "a folded header": ("unreadable", answering(HEAD + b"X-Note: a\r\n b\r\nContent-Length: 2\r\n\r\nok")),
    "a header without a name": ("unreadable", answering(HEAD + b": a\r\nContent-Length: 2\r\n\r\nok")),
    "a gzipped body": ("unreadable", answering(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok")),
    "an upgrade": (
        "unreadable",
        answering(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"),
    ),
    "a bare upgrade": ("unreadable", answering(b"HTTP/1.1 101 Switching\r\n\r\n")),
    "garbage after the body": ("unreadable", answering(OK + b"garbage")),
    "the start of another answer": ("unreadable", answering(OK + b"H")),
    "a second answer": ("unreadable", answering(OK + OK)),
    "a body of a 204": ("unreadable", answering(b"HTTP/1.1 204 No Content\r\n\r\nok")),
    "a head of 100 kB": (
        "too_large",
        answering(HEAD + b"X-Large: " + b"." * 100_000 + b"\r\nContent-Length: 0\r\n\r\n"),
    ),
    "a head of 100 kB in pieces": ("too_large", answering(HEAD, *[b"X-More: " + b"." * 990 + b"\r\n"] * 100)),
    "a head without end": ("too_large", answering(HEAD + b"X-Large: ", *[b"." * 1000] * 100)),
    "hints without end": ("too_large", answering(*[b"HTTP/1.1 103 Hints\r\nX: " + b"." * 970 + b"\r\n\r\n"] * 100)),
    "a large body": ("too_large", answering(HEAD + b"Content-Length: 500000\r\n\r\n", b"." * 500_000)),
    "a body without end": (
        "too_large",
        answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"3e8\r\n" + b"." * 1000 + b"\r\n"] * 400),
    ),
    "a large body without length": ("too_large", answering(HEAD + b"\r\n", b"." * 500_000)),
}


BROKEN_UNDER_TLS = [
    "a dripping body",
    "a body that stops",
    "a close",
    "a reset",
    "a close in the body",
    "a close between chunks",
    "a status below any",
    "garbage after the body",
    "a large body",
    "a head of 100 kB",
]


@pytest.mark.parametrize(
    ("fault", "secure"), [*((fault, False) for fault in BROKEN), *((fault, True) for fault in BROKEN_UNDER_TLS)]
)
async def test_a_request_that_was_seen_may_have_been_sent(
    wire: Wire, authority: trustme.CA, fault: str, secure: bool
) -> None:
    why, script = BROKEN[fault]
    async with open_peer(script, tls=served_by(authority, "127.0.0.1") if secure else None) as peer:
        began = asyncio.get_running_loop().time()
        with pytest.raises(MaybeSent) as caught:
            await post(wire, peer.url, seconds=0.3 if why == "timeout" else 5.0, cap=200_000)
        took = asyncio.get_running_loop().time() - began
        await settled(peer)
        assert caught.value.why == why
        assert took < 2
        assert peer.times_seen(MARK) == 1
        peer.script = serving
        assert (await post(wire, peer.url, b"next")).content == b"ok"
        assert peer.times_seen(MARK) == peer.times_seen(b"next") == 1


async def test_a_reset_before_anything_was_read_may_have_been_sent(wire: Wire) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = asyncio.create_task(post(wire, f"http://127.0.0.1:{server.getsockname()[1]}"))
        server.setblocking(False)
        accepted, _ = await loop.sock_accept(server)
        await asyncio.sleep(0.02)
        accepted.close()
        with pytest.raises(MaybeSent) as caught:
            await call
    assert caught.value.why == "closed"


async def test_a_request_that_only_half_left_may_have_been_sent(wire: Wire) -> None:
    async def stops_reading(line: Line) -> None:
        await line.first_bytes()
        line.transport.pause_reading()
        await asyncio.sleep(0.05)
        line.reset()

    async with open_peer(stops_reading) as peer:
        with pytest.raises(MaybeSent) as caught:
            await post(wire, peer.url, b"." * 20_000_000)
        assert caught.value.why == "closed"
        assert sum(len(line.seen) for line in peer.lines) < 20_000_000


# What is answered

ANSWERED: dict[str, tuple[bytes, int, bytes, bool]] = {
    "a length": (OK, 200, b"ok", True),
    "chunks": (
        HEAD + b"Transfer-Encoding: Chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nX-Late: 1\r\n\r\n",
        200,
        b"ok",
        True,
    ),
    "early hints first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n" + OK,
        200,
        b"ok",
        True,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    "an error": (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", 503, b"", True),
    "a redirect": (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", 301, b"", True),
    "an unknown status": (b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", 799, b"", True),
    "an identity": (HEAD + b"Content-Encoding: Identity\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    "a close": (HEAD + b"Connection: Close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "HTTP/1.0 kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
}


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", ANSWERED)
async def test_an_answer_is_read_whole(wire: Wire, name: str, slowly: bool) -> None:
    answer, status, content, reused = ANSWERED[name]

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(*([bytes([byte]) for byte in answer] if slowly else [answer]))

    async with open_peer(script) as peer:
        for _ in range(2):
            response = await post(wire, peer.url)
            assert (response.status_code, response.content) == (status, content)
        assert len(peer.lines) == (1 if reused else 2)
        await settled(peer, still_open=int(reused))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_an_answer_without_length_ends_with_the_connection(
    wire: Wire, authority: trustme.CA, secure: bool
) -> None:
    script = answering(HEAD + b"\r\n", b"o", b"k", then=CLOSE)
    async with open_peer(script, tls=served_by(authority, "127.0.0.1") if secure else None) as peer:
        assert (await get(wire, peer.url)).content == b"ok"
        await settled(peer)


async def test_tls_cut_off_below_is_no_end_of_an_answer(wire: Wire, authority: trustme.CA) -> None:
    script = answering(HEAD + b"\r\n", b"o", b"k", pause=0.01, then=Line.end_in_the_kernel)
    async with open_peer(script, tls=served_by(authority, "127.0.0.1")) as peer:
        with pytest.raises(MaybeSent) as caught:
            await get(wire, peer.url)
        assert caught.value.why == "closed"


@pytest.mark.parametrize("rest", [b"", b"3\r\nabc\r\n0\r\n\r\n"], ids=["alone", "with a body all the same"])
@pytest.mark.parametrize("framing", [b"Content-Length: 13", b"Transfer-Encoding: chunked", b"X-None: 1"])
async def test_a_head_has_no_body(wire: Wire, framing: bytes, rest: bytes) -> None:
    async with open_peer(answering(HEAD + framing + b"\r\n\r\n" + rest)) as peer:
        response = await wire.handle_async_request(httpx.Request("HEAD", peer.url))
        assert (response.status_code, response.content) == (200, b"")
        await settled(peer)


async def test_a_response_is_ready_to_be_used(wire: Wire) -> None:
    answer = HEAD + b'Content-Type: application/json\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 7\r\n\r\n{"a":1}'
    async with open_peer(answering(answer)) as peer, httpx.AsyncClient(transport=wire) as client:
        response = await client.get(peer.url)
        assert response.json() == {"a": 1}
        assert response.text == '{"a":1}'
        assert response.headers.get_list("X-A") == ["1", "2"]
        assert response.headers.raw[1] == (b"X-A", b"1")


async def test_the_request_is_written_as_given(wire: Wire) -> None:
    async with open_peer(serving) as peer:
        url = f"{peer.url}/a%20b?c=%0A&d=e#f"
        headers = [("X-Note", "a, b"), ("x-note", "c"), ("Content-Length", "99"), ("Transfer-Encoding", "chunked")]
        await wire.handle_async_request(httpx.Request("PATCH", url, headers=headers, content=b"body"))
        assert peer.lines[0].seen.split(b"\r\n") == [
            b"PATCH /a%20b?c=%0A&d=e HTTP/1.1",
            f"Host: 127.0.0.1:{peer.port}".encode(),
            b"X-Note: a, b",
            b"x-note: c",
            b"Accept-Encoding: identity",
            b"Content-Length: 4",
            b"",
            b"body",
        ]


@pytest.mark.parametrize(("method", "length"), [("GET", 0), ("DELETE", 0), ("POST", 1), ("PUT", 1), ("PATCH", 1)])
async def test_only_what_has_a_body_has_a_length(wire: Wire, method: str, length: int) -> None:
    async with open_peer(serving) as peer:
        request = httpx.Request(method, peer.url, stream=httpx.ByteStream(b""))
        await wire.handle_async_request(request)
        assert peer.times_seen(b"Content-Length: 0") == length
        assert peer.times_seen(b"Host: 127.0.0.1") == 1


async def test_a_body_made_in_pieces_is_sent_with_its_length(wire: Wire) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with open_peer(serving) as peer:
        await wire.handle_async_request(httpx.Request("POST", peer.url, content=body()))
        assert peer.lines[0].seen.endswith(b"Content-Length: 2\r\n\r\nab")


async def test_an_encoding_that_was_asked_for_is_asked_for(wire: Wire) -> None:
    async with open_peer(serving) as peer:
        await wire.handle_async_request(httpx.Request("GET", peer.url, headers={"Accept-Encoding": "br"}))
        assert peer.times_seen(b"Accept-Encoding: br\r\n") == peer.times_seen(b"Accept-Encoding") == 1


async def test_what_is_just_within_the_cap_is_read(wire: Wire) -> None:
    async with open_peer(serving) as peer:
        assert (await get(wire, peer.url, cap=len(OK))).content == b"ok"
        with pytest.raises(MaybeSent) as caught:
            await get(wire, peer.url, cap=len(OK) - 1)
        assert caught.value.why == "too_large"


def test_certificates_are_always_verified() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="always verified"):
        Wire(ssl=context)
    assert Wire()._ssl.verify_mode is ssl.CERT_REQUIRED


# Connections that are used again


async def test_one_handshake_serves_many_calls(wire: Wire, authority: trustme.CA) -> None:
    async with open_peer(serving, tls=served_by(authority, "127.0.0.1")) as peer:
        for _ in range(3):
            assert (await post(wire, peer.url)).content == b"ok"
        assert len(peer.lines) == 1
        assert peer.times_seen(MARK) == 3


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", [Line.close, Line.reset, Line.end_in_the_kernel])
async def test_a_connection_that_ended_idle_is_replaced(wire: Wire, authority, end, secure: bool) -> None:
    async with open_peer(serving, tls=served_by(authority, "127.0.0.1") if secure else None) as peer:
        await post(wire, peer.url, b"first")
        end(peer.lines[0])
        await asyncio.sleep(0.01)
        assert (await post(wire, peer.url)).content == b"ok"
        assert len(peer.lines) == 2
        assert peer.times_seen(MARK) == 1


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_connection_whose_end_the_loop_has_yet_to_see_is_replaced(wire: Wire, authority, secure: bool) -> None:
    async with open_peer(serving, tls=served_by(authority, "127.0.0.1") if secure else None) as peer:
        await post(wire, peer.url, b"first")
        peer.lines[0].end_in_the_kernel()
        assert (await post(wire, peer.url)).content == b"ok"
        assert len(peer.lines) == 2
        assert peer.times_seen(MARK) == 1


async def test_a_connection_that_ends_upon_a_request_is_not_replaced(wire: Wire) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await line.request()
        line.close()

    async with open_peer(script) as peer:
        await post(wire, peer.url, b"first")
        with pytest.raises(MaybeSent) as caught:
            await post(wire, peer.url)
        assert caught.value.why == "closed"
        assert len(peer.lines) == 1
        assert peer.times_seen(MARK) == 1


@pytest.mark.parametrize("late", [b"\r\n", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n", OK])
async def test_a_connection_that_speaks_unasked_is_replaced(wire: Wire, late: bytes) -> None:
    async with open_peer(serving) as peer:
        await post(wire, peer.url, b"first")
        await peer.lines[0].send(late, pause=0.01)
        assert (await post(wire, peer.url)).content == b"ok"
        assert len(peer.lines) == 2
        await settled(peer, still_open=1)


async def test_an_answer_to_a_request_that_is_still_being_written_ends_the_connection(wire: Wire) -> None:
    async def answers_early(line: Line) -> None:
        await line.first_bytes()
        line.transport.pause_reading()
        await line.send(OK)
        await asyncio.sleep(0.05)
        line.transport.resume_reading()
        await line.hang()

    async with open_peer(answers_early) as peer:
        assert (await post(wire, peer.url, b"." * 20_000_000)).content == b"ok"
        await settled(peer)


async def test_an_idle_connection_is_closed_in_time(trust: ssl.SSLContext) -> None:
    async with Wire(ssl=trust, idle=0.05) as wire, open_peer(serving) as peer:
        await get(wire, peer.url)
        await settled(peer)
        await get(wire, peer.url)
        assert len(peer.lines) == 2


@pytest.mark.parametrize(("idle", "seconds"), [(0.1, 5.0), (5.0, 0.1)], ids=["idle", "seconds"])
async def test_what_is_over_does_not_end_the_next_call(trust: ssl.SSLContext, idle: float, seconds: float) -> None:
    async def script(line: Line) -> None:
        while True:
            if b"/slow" in await line.request():
                await asyncio.sleep(0.2)
            await line.send(OK)

    async with Wire(ssl=trust, idle=idle) as wire, open_peer(script) as peer:
        await get(wire, peer.url)
        await get(wire, peer.url, seconds=seconds)
        assert (await get(wire, peer.url + "/slow")).content == b"ok"
        assert len(peer.lines) == 1


async def test_a_connection_that_is_overdue_is_not_used(trust: ssl.SSLContext) -> None:
    async with Wire(ssl=trust, idle=0.0) as wire, open_peer(serving) as peer:
        await get(wire, peer.url)
        await get(wire, peer.url)
        assert len(peer.lines) == 2


async def test_the_connection_used_last_is_used_next(wire: Wire) -> None:
    turns: dict[bytes, asyncio.Event] = {b"/a": asyncio.Event(), b"/b": asyncio.Event(), b"/c": asyncio.Event()}
    turns[b"/c"].set()

    async def script(line: Line) -> None:
        while True:
            target = (await line.request()).split()[1]
            await turns[target].wait()
            await line.send(OK)

    async with open_peer(script) as peer:
        a, b = (asyncio.create_task(get(wire, peer.url + target)) for target in ("/a", "/b"))
        await asyncio.sleep(0.02)
        for target, call in ((b"/b", b), (b"/a", a)):
            turns[target].set()
            await call
        await get(wire, peer.url + "/c")
        assert [b"/a" in line.seen for line in peer.lines if b"/c" in line.seen] == [True]


@pytest.mark.parametrize("bound", [1, 3])
async def test_no_more_connections_than_allowed(trust: ssl.SSLContext, bound: int) -> None:
    async def slow(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(0.002)
            await line.send(OK)

    async with Wire(ssl=trust, connections=bound) as wire, open_peer(slow) as peer:
        answers = await asyncio.gather(*(get(wire, peer.url) for _ in range(20)))
        assert [answer.content for answer in answers] == [b"ok"] * 20
        assert peer.most == len(peer.lines) == bound


async def test_first_come_first_served(trust: ssl.SSLContext) -> None:
    order = []

    async def script(line: Line) -> None:
        while True:
            order.append((await line.request()).split()[1])
            await asyncio.sleep(0.001)
            await line.send(OK)

    async with Wire(ssl=trust, connections=1) as wire, open_peer(script) as peer:
        calls = [asyncio.create_task(get(wire, f"{peer.url}/{turn}")) for turn in range(5)]
        await calls[0]
        late = asyncio.create_task(get(wire, f"{peer.url}/late"))
        await asyncio.gather(late, *calls)
        assert order == [b"/0", b"/1", b"/2", b"/3", b"/4", b"/late"]


async def test_one_origin_does_not_wait_for_another(trust: ssl.SSLContext) -> None:
    async with Wire(ssl=trust, connections=1) as wire, open_peer(silent) as slow, open_peer(serving) as quick:
        stuck = asyncio.create_task(get(wire, slow.url))
        await asyncio.sleep(0.01)
        assert (await get(wire, quick.url, seconds=1.0)).content == b"ok"
        stuck.cancel()


@pytest.mark.parametrize("end", [Line.close, Line.reset, None], ids=["closed there", "reset there", "unused too long"])
async def test_an_origin_that_nothing_is_left_of_is_forgotten(trust: ssl.SSLContext, end) -> None:
    async with Wire(ssl=trust, idle=5.0 if end else 0.02) as wire, open_peer(serving) as peer:
        answers = await asyncio.gather(*(get(wire, peer.url) for _ in range(3)))
        assert [answer.content for answer in answers] == [b"ok"] * 3
        assert len(wire._places) == 1
        for line in peer.lines if end else ():
            end(line)
        await until(lambda: not wire._places)


async def test_an_origin_that_was_never_reached_is_forgotten(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for _ in range(2):
        with pytest.raises(NotSent):
            await get(wire, f"http://127.0.0.1:{port}")
    await until(lambda: not wire._places)


async def test_an_origin_is_remembered_while_a_call_needs_it(trust: ssl.SSLContext) -> None:
    async with Wire(ssl=trust, connections=1) as wire, open_peer(silent) as peer:
        first = asyncio.create_task(get(wire, peer.url))
        await asyncio.sleep(0.02)
        for _ in range(2):
            with pytest.raises(NotSent, match="pool"):
                await get(wire, peer.url, seconds=0.05)
        assert (len(wire._places), peer.most) == (1, 1)
        assert await cancelled_soon(first, 0)
        assert not wire._places


async def test_a_closed_wire_keeps_nothing(trust: ssl.SSLContext) -> None:
    release = asyncio.Event()

    async def script(line: Line) -> None:
        if b"/wait" in await line.request():
            await release.wait()
        await line.send(OK)
        await line.hang()

    async with open_peer(script) as peer:
        wire = Wire(ssl=trust)
        under_way = asyncio.create_task(get(wire, peer.url + "/wait"))
        await asyncio.sleep(0.01)
        await get(wire, peer.url)
        await wire.aclose()
        await settled(peer, still_open=1)
        release.set()
        assert (await under_way).content == b"ok"
        await settled(peer)


# Cancellation


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def moody(line: Line) -> None:
    while True:
        await line.request()
        await asyncio.sleep(random.random() * 0.003)  # noqa: S311
        await line.send(OK[:30], OK[30:], pause=random.random() * 0.002)  # noqa: S311


async def cancelled_soon(call: "asyncio.Task[httpx.Response]", seconds: float) -> bool:
    await asyncio.sleep(seconds)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return (await call).content == b"ok"
    return True


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_calls_that_are_cancelled_leave_nothing_behind(trust: ssl.SSLContext, authority, secure: bool) -> None:
    random.seed(7)
    tls = served_by(authority, "127.0.0.1") if secure else None
    async with open_peer(moody, tls=tls) as peer:
        files, tasks = open_files(), len(asyncio.all_tasks())
        async with Wire(ssl=trust, connections=4) as wire:
            for _ in range(10):
                delays = [random.random() * (0.05 if secure else 0.02) for _ in range(30)]  # noqa: S311
                calls = [cancelled_soon(asyncio.create_task(get(wire, peer.url)), delay) for delay in delays]
                assert all(await asyncio.gather(*calls))
            answers = await asyncio.gather(*(get(wire, peer.url) for _ in range(20)))
            assert [answer.content for answer in answers] == [b"ok"] * 20
            assert peer.open <= 4
        await settled(peer)
        assert open_files() == files
        assert len(asyncio.all_tasks()) - sum(not task.done() for task in peer.tasks) == tasks


async def test_a_slot_that_was_just_given_to_a_cancelled_call_goes_to_the_next(trust: ssl.SSLContext) -> None:
    async with Wire(ssl=trust, connections=1) as wire, open_peer(serving) as peer:

        async def first() -> None:
            await get(wire, peer.url)
            second.cancel()

        opening = asyncio.create_task(first())
        await asyncio.sleep(0)
        second = asyncio.create_task(post(wire, peer.url))
        third = asyncio.create_task(get(wire, peer.url, seconds=1.0))
        await opening
        assert (await third).content == b"ok"
        assert second.cancelled()
        assert peer.times_seen(MARK) == 0


@pytest.mark.parametrize("delay", [0, 0.01, 0.06])
async def test_a_cancelled_call_closes_its_connection(wire: Wire, delay: float) -> None:
    async with open_peer(answering(HEAD, b"Content-Length: 9\r\n\r\n", b"...", pause=0.02)) as peer:
        call = asyncio.create_task(post(wire, peer.url))
        await until(lambda: peer.times_seen(MARK) == 1)
        await asyncio.sleep(delay)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await settled(peer)


# Names that have several addresses


def leading_to(*addresses: tuple[socket.AddressFamily, str]) -> Names:
    """A loop that finds these addresses for any name, as of these families."""
    return Names(lambda *_: [(family, socket.SOCK_STREAM, 6, "", (address, 0)) for family, address in addresses])


SIX, FOUR = socket.AF_INET6, socket.AF_INET


@pytest.mark.parametrize(
    ("addresses", "holes", "least", "most"),
    [
        ([(FOUR, "127.0.0.1")], [], 0, 0.2),
        ([(FOUR, "127.0.0.9"), (FOUR, "127.0.0.8"), (FOUR, "127.0.0.1")], [], 0, 0.2),
        ([(FOUR, "127.0.0.2"), (FOUR, "127.0.0.1")], ["127.0.0.2"], 0.2, 0.45),
        ([(SIX, "127.0.0.2"), (SIX, "127.0.0.3"), (FOUR, "127.0.0.1")], ["127.0.0.2", "127.0.0.3"], 0.2, 0.45),
    ],
    ids=["one", "refused", "one silent", "a silent family"],
)
def test_the_first_address_that_answers_is_taken(trust: ssl.SSLContext, addresses, holes, least, most) -> None:
    async def conversation() -> float:
        loop = asyncio.get_running_loop()
        async with Wire(ssl=trust) as wire, open_peer(serving) as peer:
            with contextlib.ExitStack() as stack:
                for address in holes:
                    stack.enter_context(black_hole(address, peer.port))
                files, began = open_files(), loop.time()
                await post(wire, f"http://several.example:{peer.port}")
                took = loop.time() - began
                await asyncio.sleep(0)
                assert len(asyncio.all_tasks()) == 1 + len(peer.tasks)
                assert open_files() == files + 2
                assert peer.times_seen(MARK) == 1
        return took

    with asyncio.Runner(loop_factory=lambda: leading_to(*addresses)) as runner:
        assert least <= runner.run(conversation()) <= most


def test_another_address_is_left_alone_where_the_first_answers(trust: ssl.SSLContext) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust) as wire, open_peer(serving) as peer:
            with socket.create_server(("127.0.0.2", peer.port)) as other:
                other.setblocking(False)
                await post(wire, f"http://several.example:{peer.port}")
                await asyncio.sleep(0.3)
                with pytest.raises(BlockingIOError):
                    other.accept()

    with asyncio.Runner(loop_factory=lambda: leading_to((FOUR, "127.0.0.1"), (FOUR, "127.0.0.2"))) as runner:
        runner.run(conversation())


def test_addresses_that_all_refuse_are_not_sent_to(trust: ssl.SSLContext) -> None:
    async def conversation() -> str:
        async with Wire(ssl=trust) as wire:
            with pytest.raises(NotSent) as caught:
                await post(wire, "http://several.example:9")
            return caught.value.why

    with asyncio.Runner(loop_factory=lambda: leading_to((FOUR, "127.0.0.9"), (FOUR, "127.0.0.8"))) as runner:
        assert runner.run(conversation()) == "refused"


def test_calls_that_are_cancelled_between_two_addresses_leave_nothing_behind(trust: ssl.SSLContext) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust, connections=60) as wire, open_peer(serving) as peer:
            with black_hole("127.0.0.2", peer.port):
                url, files = f"http://several.example:{peer.port}", open_files()
                calls = [asyncio.create_task(get(wire, url)) for _ in range(60)]
                await asyncio.gather(*(cancelled_soon(call, 0.24 + 0.0005 * turn) for turn, call in enumerate(calls)))
                await wire.aclose()
                await settled(peer)
                assert open_files() == files

    with asyncio.Runner(loop_factory=lambda: leading_to((FOUR, "127.0.0.2"), (FOUR, "127.0.0.1"))) as runner:
        runner.run(conversation())


class Silence:
    """A name server that says nothing about what ends in `silent.example` until it is told to; the rest is here."""

    def __init__(self) -> None:
        self.broken = threading.Event()
        self.asked: list[str] = []

    def find(self, host: str, *_: object) -> Found:
        self.asked.append(host)
        if host.endswith("silent.example"):
            self.broken.wait(5)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(FOUR, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def silence() -> Iterator[Silence]:
    silence = Silence()
    yield silence
    silence.broken.set()


def test_a_name_nobody_answers_for_keeps_no_other_from_being_found(trust: ssl.SSLContext, silence: Silence) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust, connections=60) as wire, open_peer(serving) as peer:
            url = f"http://silent.example:{peer.port}"
            calls = [asyncio.create_task(post(wire, url, seconds=0.3)) for _ in range(60)]
            await asyncio.sleep(0.05)
            assert (await get(wire, f"http://quick.example:{peer.port}", seconds=0.2)).content == b"ok"
            lost = await asyncio.gather(*calls, return_exceptions=True)
            assert {error.why for error in lost if isinstance(error, NotSent)} == {"timeout"}
            assert silence.asked == ["silent.example", "quick.example"]

    with asyncio.Runner(loop_factory=lambda: Names(silence.find)) as runner:
        runner.run(conversation())


def test_names_nobody_answers_for_keep_only_their_own_wire_waiting(trust: ssl.SSLContext, silence: Silence) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust) as messenger, Wire(ssl=trust) as carrier, open_peer(serving) as peer:
            urls = [f"http://{number}.silent.example" for number in range(60)]
            calls = [asyncio.create_task(post(messenger, url, seconds=0.3)) for url in urls]
            await asyncio.sleep(0.05)
            assert (await get(carrier, f"http://quick.example:{peer.port}", seconds=0.2)).content == b"ok"
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 0.2) == "done"
            lost = await asyncio.gather(*calls, return_exceptions=True)
            assert [error.why for error in lost if isinstance(error, NotSent)] == ["timeout"] * 60

    with asyncio.Runner(loop_factory=lambda: Names(silence.find)) as runner:
        runner.run(conversation())


def test_all_who_wait_for_a_name_are_told_what_became_of_it(trust: ssl.SSLContext, silence: Silence) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust) as wire:
            calls = [asyncio.create_task(get(wire, "http://silent.example")) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert await cancelled_soon(calls.pop(), 0)
            silence.broken.set()
            lost = await asyncio.gather(*calls, return_exceptions=True)
            assert [error.why for error in lost if isinstance(error, NotSent)] == ["dns"] * 2
            with pytest.raises(NotSent):
                await get(wire, "http://silent.example")
            assert len(silence.asked) == 2, "the next call asks anew"

    with asyncio.Runner(loop_factory=lambda: Names(silence.find)) as runner:
        runner.run(conversation())


def test_a_name_that_is_not_found_when_everybody_has_left_is_nobodys(
    trust: ssl.SSLContext, silence: Silence, caplog: pytest.LogCaptureFixture
) -> None:
    async def conversation() -> None:
        async with Wire(ssl=trust) as wire:
            with pytest.raises(NotSent, match="timeout"):
                await get(wire, "http://silent.example", seconds=0.05)
            silence.broken.set()
            await asyncio.sleep(0.05)
            gc.collect()
            assert caplog.records == []

    with asyncio.Runner(loop_factory=lambda: Names(silence.find)) as runner:
        runner.run(conversation())


def test_a_wire_is_closed_without_waiting_for_a_name(
    trust: ssl.SSLContext, silence: Silence, caplog: pytest.LogCaptureFixture
) -> None:
    async def conversation() -> None:
        wire = Wire(ssl=trust)
        urls = [f"http://{number}.silent.example" for number in range(60)]
        calls = [asyncio.create_task(get(wire, url)) for url in urls]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(wire.aclose(), 0.2)
        lost = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 0.2)
        assert [error.why for error in lost if isinstance(error, NotSent)] == ["dns"] * 60

    with asyncio.Runner(loop_factory=lambda: Names(silence.find)) as runner:
        runner.run(conversation())
    silence.broken.set()
    for thread in threading.enumerate():
        if thread.name.startswith("names"):
            thread.join(1)
    assert caplog.records == []


# Through a proxy


@pytest.mark.parametrize(
    ("script", "url", "kind", "why"),
    [
        (hangs_up_first, "http://provider.example", MaybeSent, "closed"),
        (answering(), "http://provider.example", MaybeSent, "timeout"),
        (answering(then=CLOSE), "http://provider.example", MaybeSent, "closed"),
        (answering(HEAD + b"Content-Length: 9\r\n\r\n..."), "http://provider.example", MaybeSent, "timeout"),
        (BROKEN["a dripping body"][1], "http://provider.example", MaybeSent, "timeout"),
        (BROKEN["a large body"][1], "http://provider.example", MaybeSent, "too_large"),
        (BROKEN["a body without end"][1], "http://provider.example", MaybeSent, "too_large"),
        (BROKEN["a gzipped body"][1], "http://provider.example", MaybeSent, "unreadable"),
        (answering(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"), "https://provider.example", NotSent, "refused"),
    ],
)
async def test_a_failure_behind_a_proxy_is_told(script: Script, url: str, kind, why: str) -> None:
    async with open_peer(script) as peer, Proxied(peer.url) as proxied:
        with pytest.raises(kind) as caught:
            await post(proxied, url, seconds=0.2 if why == "timeout" else 5.0, cap=200_000)
        assert caught.value.why == why
        assert peer.times_seen(MARK) <= (kind is MaybeSent)


async def test_a_proxy_that_is_not_there_is_not_sent_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Proxied(f"http://127.0.0.1:{port}") as proxied:
        with pytest.raises(NotSent) as caught:
            await post(proxied, "http://provider.example")
    assert caught.value.why == "refused"


async def test_a_wait_for_a_connection_to_the_proxy_is_not_sent() -> None:
    async with open_peer(silent) as peer, Proxied(peer.url, connections=1) as proxied:
        first = asyncio.create_task(get(proxied, "http://provider.example", seconds=0.3))
        await asyncio.sleep(0.01)
        with pytest.raises(NotSent) as caught:
            await post(proxied, "http://provider.example", connect_seconds=0.1)
        assert caught.value.why == "pool"
        with pytest.raises(MaybeSent):
            await first


async def test_an_answer_behind_a_proxy_is_whole() -> None:
    async with open_peer(serving) as peer, Proxied(peer.url) as proxied:
        response = await post(proxied, "http://provider.example/a")
        assert (response.status_code, response.content) == (200, b"ok")
        assert peer.times_seen(b"POST http://provider.example/a HTTP/1.1") == 1
        assert peer.times_seen(b"Accept-Encoding: identity") == 1
