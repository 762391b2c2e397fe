"""The way to the providers, made to know whether the first byte of a request may have left."""

import asyncio
import re
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from itertools import zip_longest
from socket import AF_UNSPEC, SOCK_STREAM, gaierror, getaddrinfo
from ssl import SSLContext, SSLError
from typing import Any, Literal

import httpx

from app.connection import LENGTHS, Connection, Doubt, Reply

Reason = Literal["refused", "dns", "tls", "timeout", "pool", "protocol", "forbidden"]

_Origin = tuple[str, str, int]
_Found = list[tuple[Any, ...]]
_PORTS = {"http": 80, "https": 443}
_HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!-9;-~]+: [\t -~\x80-\xff]*\r\n)+\r\n")
_STAGGER = 0.25
_LOOK_UPS_AT_ONCE = 16
_REASONS: dict[type, Reason] = {gaierror: "dns", SSLError: "tls", TimeoutError: "timeout", OSError: "refused"}


class NotSent(httpx.TransportError):
    """No byte of the request left: nothing happened, it may be asked again."""

    def __init__(self, why: Reason) -> None:
        super().__init__(why)
        self.why: Reason = why


class MaybeSent(httpx.TransportError):
    """A byte of the request may have left and no complete answer was read: look before asking again."""

    def __init__(self, why: Doubt) -> None:
        super().__init__(why)
        self.why: Doubt = why


class Wire(httpx.AsyncBaseTransport):
    """HTTP/1.1 straight to the origin: no redirect, cookie, decoding, resending or environment; a complete response.

    `connections` bounds the sockets of one origin, given out first come first served; an unused one is kept for `idle`
    seconds. A request's extensions may set `seconds` (the whole call: 10), `connect_seconds` (of it, for DNS, TCP and
    TLS: 1.5) and `cap` (bytes of the answer on the wire: 2 MiB). `permits` says which addresses may be connected to.
    """

    def __init__(
        self,
        *,
        ssl: SSLContext | None = None,
        connections: int = 32,
        idle: float = 4.0,
        permits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._ssl = _verifying(ssl)
        self._permits = permits
        self._connections, self._patience = connections, idle
        self._places: dict[_Origin, _Places] = {}
        self._names = _Names()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Nothing gets out but `NotSent` while there is no connection, and `MaybeSent` once there is one."""
        places = connection = None
        try:
            seconds, connect_seconds, cap = _limits(request.extensions)
            deadline = asyncio.get_running_loop().time() + seconds
            origin = _origin(request.url)
            message = await _encode(request)
            places = self._entered(origin)
            connection = await self._take(places, deadline, connect_seconds)
            return _response(await connection.ask(message, deadline, cap, bodiless=request.method == "HEAD"))
        except (NotSent, MaybeSent):
            raise
        except Exception as error:
            why: Reason = next((why for kind, why in _REASONS.items() if isinstance(error, kind)), "protocol")
            raise (MaybeSent("unreadable") if connection else NotSent(why)) from error
        finally:
            if places:
                self._left(places, connection)

    async def aclose(self) -> None:
        """Close what is idle now, and what is in use when its call ends."""
        self._closed = True
        self._names.close()
        for places in self._places.values():
            for connection in places.idle:
                connection.abort()

    def _entered(self, origin: _Origin) -> "_Places":
        places = self._places.get(origin) or self._places.setdefault(origin, _Places(origin, self._connections))
        places.calls += 1
        return places

    async def _take(self, places: "_Places", deadline: float, connect_seconds: float) -> Connection:
        """The connection used last, or a new one: to `ask` before anything else is awaited."""
        try:
            async with asyncio.timeout_at(deadline if places.free.locked() else None):
                await places.free.acquire()
        except TimeoutError:
            raise NotSent("pool") from None
        try:
            return places.awake() or await self._opened(places.origin, deadline, connect_seconds)
        except BaseException:
            places.free.release()
            raise

    async def _opened(self, origin: _Origin, deadline: float, connect_seconds: float) -> Connection:
        until = min(deadline, asyncio.get_running_loop().time() + connect_seconds)
        async with asyncio.timeout_at(until):
            connection = await _connect(origin, self._names, self._ssl, self._permits)
        if not connection.alive:
            raise NotSent("refused")
        return connection

    def _left(self, places: "_Places", connection: Connection | None) -> None:
        places.calls -= 1
        if connection:
            places.free.release()
            self._rest(places, connection)
        self._tidy(places)

    def _rest(self, places: "_Places", connection: Connection) -> None:
        if self._closed or not connection.alive:
            connection.abort()
        else:
            places.idle.append(connection)
            connection.rest(self._patience, partial(self._lose, places, connection))

    def _lose(self, places: "_Places", connection: Connection) -> None:
        places.idle.remove(connection)
        self._tidy(places)

    def _tidy(self, places: "_Places") -> None:
        if not (places.calls or places.idle):
            del self._places[places.origin]


class _Places:
    """For connections to one origin: `free` ones, `idle` connections, and how many `calls` want one or have it."""

    def __init__(self, origin: _Origin, connections: int) -> None:
        self.origin = origin
        self.free = asyncio.Semaphore(connections)
        self.idle: list[Connection] = []
        self.calls = 0

    def awake(self) -> Connection | None:
        while self.idle:
            if (connection := self.idle.pop()).wake():
                return connection
        return None


class _Names:
    """What names become, found in threads of their own: one whose servers are silent takes one, however many ask."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, "names")
        self._under_way: dict[str, asyncio.Future[_Found]] = {}

    async def find(self, host: str) -> _Found:
        """The C library decides how long that takes, and whoever asks how long to wait for it."""
        look_up = self._under_way.get(host) or self._begun(host)
        await asyncio.wait([look_up])
        if look_up.cancelled():
            raise NotSent("dns")
        return look_up.result()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for look_up in self._under_way.values():
            look_up.cancel()

    def _begun(self, host: str) -> "asyncio.Future[_Found]":
        loop = asyncio.get_running_loop()
        look_up = loop.run_in_executor(self._threads, getaddrinfo, host, None, AF_UNSPEC, SOCK_STREAM)
        look_up.add_done_callback(partial(self._ended, host))
        self._under_way[host] = look_up
        return look_up

    def _ended(self, host: str, look_up: "asyncio.Future[_Found]") -> None:
        """Seen even where everybody has left."""
        del self._under_way[host]
        if not look_up.cancelled():
            look_up.exception()


class Proxied(httpx.AsyncBaseTransport):
    """The same through an egress proxy, as far as httpx's own transport can tell: what it can't is `MaybeSent`."""

    def __init__(self, proxy: str, *, ssl: SSLContext | None = None, connections: int = 32, idle: float = 4.0) -> None:
        limits = httpx.Limits(max_connections=connections, keepalive_expiry=idle)
        self._inner = httpx.AsyncHTTPTransport(verify=_verifying(ssl), trust_env=False, limits=limits, proxy=proxy)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            seconds, connect_seconds, cap = _limits(request.extensions)
            request.headers.setdefault("Accept-Encoding", "identity")
            request.extensions["timeout"] = dict.fromkeys(("pool", "connect"), connect_seconds)
            async with asyncio.timeout(seconds):
                return _response(await _whole(await self._inner.handle_async_request(request), cap))
        except (NotSent, MaybeSent):
            raise
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise NotSent("refused") from error
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSent("pool" if isinstance(error, httpx.PoolTimeout) else "timeout") from error
        except TimeoutError as error:
            raise MaybeSent("timeout") from error
        except Exception as error:
            raise MaybeSent("closed") from error

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _connect(origin: _Origin, names: _Names, ssl: SSLContext, permits: Callable[[str], bool]) -> Connection:
    """Open a connection: the one place where an address becomes a socket.

    Where one of the addresses is not permitted none is tried: a name that leads astray may do so in turns.
    Another address is tried when one fails or after 250 ms; the first to succeed is taken (happy eyeballs, RFC 8305).
    """
    loop, (scheme, host, port) = asyncio.get_running_loop(), origin
    tls, name = (ssl, host) if scheme == "https" else (None, None)
    families: dict[int, dict[str, None]] = {}
    for family, _, _, _, address in await names.find(host):
        families.setdefault(family, {})[str(address[0])] = None
    if not all(permits(address) for found in families.values() for address in found):
        raise NotSent("forbidden")
    addresses = [address for row in zip_longest(*families.values()) for address in row if address]

    async def dial(turn: int, address: str) -> Connection:
        if turn:
            await asyncio.wait(dials[turn - 1 : turn], timeout=turn * _STAGGER)
        return (await loop.create_connection(Connection, address, port, ssl=tls, server_hostname=name))[1]

    dials = [loop.create_task(dial(turn, address)) for turn, address in enumerate(addresses)]
    won = None
    try:
        for first in asyncio.as_completed(dials):
            with suppress(OSError):
                won = await first
                return won
        return await dials[-1]
    finally:
        for other in dials:
            other.cancel()
            other.add_done_callback(partial(_hang_up, won))


def _hang_up(won: Connection | None, dial: asyncio.Task[Connection]) -> None:
    if not dial.cancelled() and not dial.exception() and dial.result() is not won:
        dial.result().abort()


async def _encode(request: httpx.Request) -> bytes:
    body = await request.aread()
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in LENGTHS]
    given = {name.lower() for name, _ in headers}
    if b"host" not in given:
        headers.insert(0, (b"Host", request.url.netloc))
    if b"accept-encoding" not in given:
        headers.append((b"Accept-Encoding", b"identity"))
    if body or request.method in ("POST", "PUT", "PATCH"):
        headers.append((b"Content-Length", b"%d" % len(body)))
    fields = b"".join([b"%s: %s\r\n" % header for header in headers])
    head = b"%s %s HTTP/1.1\r\n%s\r\n" % (request.method.encode(), request.url.raw_path, fields)
    if not _HEAD.fullmatch(head) or head.count(b"\n") != len(headers) + 2:
        raise ValueError("a request line or a header that HTTP has no form for")
    return head + body


async def _whole(response: httpx.Response, cap: int) -> Reply | Doubt:
    size, parts = sum(len(name) + len(value) + 4 for name, value in response.headers.raw), []
    try:
        async for part in response.aiter_raw():
            size += len(part)
            if size > cap:
                return "too_large"
            parts.append(part)
    finally:
        await response.aclose()
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return "unreadable"
    return response.status_code, response.headers.raw, b"".join(parts)


def _response(reply: Reply | Doubt) -> httpx.Response:
    if isinstance(reply, str):
        raise MaybeSent(reply)
    status, headers, body = reply
    response = httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))
    response._content = body  # noqa: SLF001  what `read` would set, without looking for a coding
    return response


def _origin(url: httpx.URL) -> _Origin:
    usual = _PORTS[url.scheme]
    return url.scheme, url.raw_host.decode(), usual if url.port is None else url.port


def _limits(extensions: MutableMapping[str, Any]) -> tuple[float, float, int]:
    seconds = extensions.get("seconds", 10.0)
    if seconds <= 0:
        raise NotSent("timeout")
    return seconds, extensions.get("connect_seconds", 1.5), extensions.get("cap", 2 << 20)


def _verifying(ssl: SSLContext | None) -> SSLContext:
    ssl = ssl or _trusting()
    if not ssl.check_hostname:
        raise ValueError("certificates and host names are always verified")
    return ssl


@cache
def _trusting() -> SSLContext:
    """Whoever is known here, read once: there are many of them."""
    return httpx.create_ssl_context(trust_env=False)
