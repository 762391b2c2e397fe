"""A peer on 127.0.0.1 that does to each connection what a test tells it, and remembers what it saw."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[["Line"], Awaitable[None]]
Found = list[tuple[Any, ...]]


class Names(asyncio.SelectorEventLoop):
    """A loop in whose threads a name becomes what `find` says of it."""

    def __init__(self, find: Callable[..., Found]) -> None:
        super().__init__()
        self.find = find

    def run_in_executor(self, executor, func, *args):  # type: ignore[override]  # typeshed has it as a coroutine too
        return super().run_in_executor(executor, self.find if func is socket.getaddrinfo else func, *args)


class Line(asyncio.Protocol):
    """One accepted connection: what was `seen` on it, and the means to answer or to break it."""

    def __init__(self, peer: "Peer") -> None:
        self.peer = peer
        self.seen = bytearray()
        self.gone = False
        self._taken = 0
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer.lines.append(self)
        self.peer.most = max(self.peer.most, self.peer.open)
        self.peer.tasks.append(asyncio.get_running_loop().create_task(self.play()))

    async def play(self) -> None:
        try:
            await self.peer.script(self)
        except ConnectionError:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.seen += data
        self._news.set()

    def eof_received(self) -> None:
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.gone = True
        self._news.set()

    async def request(self) -> bytes:
        """The next whole request; `ConnectionError` when the other side goes before."""
        while (end := self._end()) is None:
            await self._more()
        request, self._taken = bytes(self.seen[self._taken : end]), end
        return request

    async def first_bytes(self) -> None:
        while not self.seen:
            await self._more()

    async def send(self, *segments: bytes, pause: float = 0) -> None:
        for segment in segments:
            self.transport.write(segment)
            await asyncio.sleep(pause)

    async def hang(self) -> None:
        while True:
            await self._more()

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        with self._socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def end_in_the_kernel(self) -> None:
        """End the connection at once, before any loop has had a turn."""
        with self._socket() as sock:
            sock.shutdown(socket.SHUT_RDWR)

    def _socket(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))

    def _end(self) -> int | None:
        head, found, _ = bytes(self.seen[self._taken :]).partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        end = self._taken + len(head) + 4 + sum(lengths)
        return end if found and len(self.seen) >= end else None

    async def _more(self) -> None:
        if self.gone:
            raise ConnectionError
        await self._news.wait()
        self._news.clear()


@dataclass
class Peer:
    script: Script
    scheme: str
    port: int = 0
    most: int = 0
    lines: list[Line] = field(default_factory=list)
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        return sum(not line.gone for line in self.lines)

    def times_seen(self, mark: bytes) -> int:
        return sum(line.seen.count(mark) for line in self.lines)


@asynccontextmanager
async def open_peer(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    peer = Peer(script, "https" if tls else "http")
    server = await asyncio.get_running_loop().create_server(lambda: Line(peer), "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for line in peer.lines:
            line.transport.abort()
        for task in peer.tasks:
            task.cancel()
        await asyncio.gather(*peer.tasks, return_exceptions=True)


async def serving(line: Line) -> None:
    while True:
        await line.request()
        await line.send(OK)


def answering(*segments: bytes, pause: float = 0, then: Callable[[Line], None] | None = None) -> Script:
    """Answer the first request with these segments, then do `then`, or nothing more."""

    async def script(line: Line) -> None:
        await line.request()
        await line.send(*segments, pause=pause)
        if then:
            then(line)
        await line.hang()

    return script
