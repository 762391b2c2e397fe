"""A provider's end of the line that does on each connection just what a test tells it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

Manner: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """`seen` are the request lines that were read whole, with their bodies."""

    url: str = ""
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    manners: list[Manner] = field(default_factory=list)

    async def request(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
        self.seen.append((head.splitlines()[0], await reader.readexactly(length)))

    def answers(self, status: int, body: bytes = b"{}", headers: Iterable[str] = ()) -> None:
        async def manner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.request(reader)
            lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
            writer.write("\r\n".join(lines).encode() + body)

        self.manners.append(manner)

    def hangs_up(self) -> None:
        async def manner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.request(reader)

        self.manners.append(manner)

    def stays_silent(self) -> None:
        async def manner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.request(reader)
            await reader.read()

        self.manners.append(manner)


@asynccontextmanager
async def open_peer() -> AsyncIterator[Peer]:
    peer = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer.manners.pop(0)(reader, writer)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield peer
