"""One socket to an origin and the HTTP/1.1 conversations on it, one at a time, read without forgiving anything."""

import asyncio
import select
from collections.abc import Callable
from ssl import SSLError
from typing import Literal, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

Doubt = Literal["timeout", "closed", "unreadable", "too_large"]
Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes]

LENGTHS = (b"content-length", b"transfer-encoding")

_CODINGS = {b"transfer-encoding": b"chunked", b"content-encoding": b"identity"}
_FRAMING = {*LENGTHS, *_CODINGS}
_HEAD_LIMIT = 64 * 1024


class Connection(asyncio.Protocol):
    """`alive` says whether there may be another conversation: whatever is not whole and clean ends the connection."""

    __slots__ = (
        "_bodiless",
        "_body",
        "_cap",
        "_complete",
        "_expires",
        "_expiry",
        "_framed",
        "_head",
        "_headed",
        "_headers",
        "_lost",
        "_parser",
        "_size",
        "_status",
        "_transport",
        "_verdict",
        "alive",
    )

    def __init__(self) -> None:
        self.alive = True
        self._parser = HttpResponseParser(self)
        self._verdict: asyncio.Future[Doubt | None] | None = None
        self._lost: Callable[[], None] | None = None
        self._begin(0, bodiless=False)

    def _begin(self, cap: int, *, bodiless: bool) -> None:
        self._cap, self._bodiless = cap, bodiless
        self._size = self._head = self._status = 0
        self._headed = self._framed = self._complete = False
        self._headers: Headers = []
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, message: bytes, deadline: float, cap: int, *, bodiless: bool) -> Reply | Doubt:
        """Write once before anything is awaited, and read one whole reply of at most `cap` bytes."""
        loop = asyncio.get_running_loop()
        self._begin(cap, bodiless=bodiless)
        self.alive = False
        self._verdict = loop.create_future()
        timer = loop.call_at(deadline, self._end, "timeout")
        try:
            self._transport.write(message)
            doubt = await self._verdict
        finally:
            timer.cancel()
        return doubt or (self._status, self._headers, b"".join(self._body))

    def rest(self, seconds: float, lost: Callable[[], None]) -> None:
        """Until it is woken, or ends before, which `lost` is told."""
        loop = asyncio.get_running_loop()
        self._lost = lost
        self._expires = loop.time() + seconds
        self._expiry = loop.call_at(self._expires, self.abort)

    def wake(self) -> bool:
        """Whether it may be written to: unexpired, and nothing has come, not even an end that the loop hasn't seen."""
        self._expiry.cancel()
        self._lost = None
        if self.alive:
            poll = select.poll()
            poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
            if self._expires <= asyncio.get_running_loop().time() or poll.poll(0):
                self.abort()
        return self.alive

    def abort(self) -> None:
        self.alive = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._cap:
            self._end("too_large")
        else:
            self._read(data)

    def eof_received(self) -> None:
        self._end(None if self._headed and not self._framed and self._is_clean_end() else "closed")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end("closed")
        lost, self._lost = self._lost, None
        if lost:
            lost()

    def on_message_begin(self) -> None:
        if self._complete:
            raise HttpParserError("bytes after the reply")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        if not self._headed:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if 100 <= self._status < 200:
            return
        if self._status < 200 or self._parser.get_http_version() not in ("1.0", "1.1"):
            raise HttpParserError("no final status of HTTP/1")
        framing = [(key, value.lower()) for name, value in self._headers if (key := name.lower()) in _FRAMING]
        lengths = sum(key in LENGTHS for key, _ in framing)
        if lengths > 1 or any(value != _CODINGS.get(key, value) for key, value in framing):
            raise HttpParserError("a body that can't be told from its headers")
        self._headed, self._framed, self._complete = True, lengths == 1, self._bodiless

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._headed and not self._complete:
            self._complete = True
            self.alive = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()

    def _read(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._end("unreadable")
        if self._head > _HEAD_LIMIT or (self._size > _HEAD_LIMIT and not self._headed):
            self._end("too_large")
        if self._complete:
            self._end(None)

    def _is_clean_end(self) -> bool:
        """Whether TLS, if there is any, was closed by the other side and not cut off below."""
        tls = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or not tls.read(1)
        except SSLError:
            return False

    def _end(self, doubt: Doubt | None) -> None:
        """Conclude the conversation, if one is under way; after it not a byte is expected."""
        self._cap = 0
        if self._verdict and not self._verdict.done():
            self._verdict.set_result(doubt)
        if doubt:
            self.abort()
