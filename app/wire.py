"""The way to the providers, made to know whether the first byte of a request may have left."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from socket import SOCK_STREAM, gaierror
from ssl import SSLContext, SSLError
from typing import Any, Literal

import httpx

from app.connection import LENGTHS, Connection, Doubt, Reply

Reason = Literal["refused", "dns", "tls", "timeout", "pool", "protocol", "forbidden"]

_Origin = tuple[str, str, int]
_PORTS = {"http": 80, "https": 443}
_HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!-9;-~]+: [\t -~\x80-\xff]*\r\n)+\r\n")
_STAGGER = 0.25
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
        self._slots: defaultdict[_Origin, asyncio.Semaphore] = defaultdict(partial(asyncio.Semaphore, connections))
        self._idle: defaultdict[_Origin, list[Connection]] = defaultdict(list)
        self._patience = idle
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Nothing gets out but `NotSent` while there is no connection, and `MaybeSent` once there is one."""
        connection = None
        try:
            seconds, connect_seconds, cap = _limits(request.extensions)
            deadline = asyncio.get_running_loop().time() + seconds
            origin = _origin(request.url)
            message = await _encode(request)
            connection = await self._take(origin, deadline, connect_seconds)
            return _response(await connection.ask(message, deadline, cap, bodiless=request.method == "HEAD"))
        except (NotSent, MaybeSent):
            raise
        except Exception as error:
            why: Reason = next((why for kind, why in _REASONS.items() if isinstance(error, kind)), "protocol")
            raise (MaybeSent("unreadable") if connection else NotSent(why)) from error
        finally:
            if connection:
                self._put(origin, connection)

    async def aclose(self) -> None:
        """Close what is idle now, and what is in use when its call ends."""
        self._closed = True
        for idle in self._idle.values():
            while idle:
                idle.pop().abort()

    async def _take(self, origin: _Origin, deadline: float, connect_seconds: float) -> Connection:
        """The connection used last, or a new one: to `ask` before anything else is awaited, and to `_put` back."""
        slots, idle = self._slots[origin], self._idle[origin]
        try:
            async with asyncio.timeout_at(deadline if slots.locked() else None):
                await slots.acquire()
        except TimeoutError:
            raise NotSent("pool") from None
        try:
            return self._awake(idle) or await self._opened(origin, deadline, connect_seconds)
        except BaseException:
            slots.release()
            raise

    def _awake(self, idle: list[Connection]) -> Connection | None:
        while idle:
            if (connection := idle.pop()).wake():
                return connection
        return None

    async def _opened(self, origin: _Origin, deadline: float, connect_seconds: float) -> Connection:
        until = min(deadline, asyncio.get_running_loop().time() + connect_seconds)
        async with asyncio.timeout_at(until):
            connection = await _connect(origin, self._ssl, self._permits)
        if not connection.alive:
            raise NotSent("refused")
        return connection

    def _put(self, origin: _Origin, connection: Connection) -> None:
        self._slots[origin].release()
        if self._closed or not connection.alive:
            connection.abort()
        else:
            connection.rest(self._patience)
            self._idle[origin].append(connection)


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


async def _connect(origin: _Origin, ssl: SSLContext, permits: Callable[[str], bool]) -> Connection:
    """Open a connection: the one place where a name becomes addresses, and an address a socket.

    Where one of the addresses is not permitted none is tried: a name that leads astray may do so in turns.
    Another address is tried when one fails or after 250 ms; the first to succeed is taken (happy eyeballs, RFC 8305).
    """
    loop, (scheme, host, port) = asyncio.get_running_loop(), origin
    tls, name = (ssl, host) if scheme == "https" else (None, None)
    families: dict[int, dict[str, None]] = {}
    for family, _, _, _, address in await loop.getaddrinfo(host, port, type=SOCK_STREAM):
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
    ssl = ssl or httpx.create_ssl_context(trust_env=False)
    if not ssl.check_hostname:
        raise ValueError("certificates and host names are always verified")
    return ssl
