"""How uvicorn serves here: it waits for nobody for ever, and told to end, it drains before it closes."""

import asyncio
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from math import inf
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from secrets import token_hex
from socket import socket
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from starlette.requests import Request
from uvicorn._types import ASGI3Application
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.problems import problem
from app.domain.errors import Malformed
from app.observe import Line, dressed

LONGEST_HEAD = 32 * 1024  # bytes of the target and all headers
LOOK_EVERY_SECONDS = 0.2
COLLECT_AFTER = (10_000, 20, 50)  # new objects, then rounds of the younger generation


class Patient(HttpToolsProtocol):
    """A connection that takes only so much beside a body, and waits only so long: for a request, and to be read."""

    longest_seconds = 12.0  # for a whole request; the application gives a body a little less, and answers
    head_began = False
    head_bytes = 0  # that have come of a head, or since the last piece of a body
    trailer_bytes = 0
    whole = False
    deadline: asyncio.TimerHandle | None = None
    unread: asyncio.TimerHandle | None = None
    begun: RequestResponseCycle | None = None
    waiting: tuple[RequestResponseCycle, ASGI3Application] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Told to the call under way, which uvicorn tells only the one that came last."""
        if self.begun:
            self.begun.disconnected = True
            self.begun.message_event.set()
        self.whole = True
        self._watch()
        self._is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.whole:
            self.head_bytes += len(data)
        super().data_received(data)
        if self.head_bytes > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")
        self._watch()

    def on_message_begin(self) -> None:
        self.head_began, self.head_bytes, self.trailer_bytes, self.whole = True, 0, 0, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """What comes after a body is nobody's: it is measured and forgotten."""
        if self.head_began:
            super().on_header(name, value)
            return
        self.trailer_bytes += len(name) + len(value)
        if self.trailer_bytes > LONGEST_HEAD:
            raise ValueError("The trailers are too long.")

    def on_headers_complete(self) -> None:
        """A head that came at once is measured here; ValueError becomes uvicorn's own 400."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > LONGEST_HEAD:
            raise ValueError("The headers are too long.")
        self.head_began, self.head_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.whole, self.head_bytes = True, 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Whoever reads nothing of an answer has no more time for that than for a request."""
        super().pause_writing()
        self._expect_less(self.transport.get_write_buffer_size() + 1)

    def _expect_less(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self.unread = self.loop.call_later(self.longest_seconds, self._expect_less, left)
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()
        if self.waiting:
            first, self.waiting = self.waiting, None
            self._start_asgi_task(*first)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Not before there is room for an answer, so that none holds a place while it waits for its caller to read."""
        if self.flow.write_paused:
            self.waiting = (cycle, app)
        else:
            self.begun = cycle
            super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """As a problem, like everything else; a request whose answer has begun gets no second one."""
        if self.whole or self.head_began or not getattr(self.cycle, "response_started", False):
            self.transport.write(malformed(self.config.loaded_app, msg))
        self.transport.close()

    def _is_read(self) -> None:
        if self.unread:
            self.unread.cancel()
            self.unread = None

    def _watch(self) -> None:
        if self.whole and self.deadline:
            self.deadline.cancel()
            self.deadline = None
        elif not self.whole and not self.deadline:
            self.deadline = self.loop.call_later(self.longest_seconds, self._give_up)

    def _give_up(self) -> None:
        """Unless an answer is on its way just now."""
        self.deadline = None
        if getattr(self.cycle, "response_complete", True):
            self.transport.close()
        else:
            self._watch()


def malformed(application: Any, detail: str) -> bytes:
    """The whole answer to what is no request that the application could be given."""
    id = token_hex(16)
    request = Request({"type": "http", "app": application, "headers": [], "state": {"line": Line(id)}})
    answer = problem(request, Malformed(detail))
    headers = dressed("/", [*answer.raw_headers, (b"x-request-id", id.encode())])
    status = HTTPStatus(answer.status_code)
    lines = [f"HTTP/1.1 {status} {status.phrase}".encode(), *(b": ".join(header) for header in headers), b""]
    return b"\r\n".join([*lines, bytes(answer.body)])


class Draining(uvicorn.Server):
    """On SIGTERM it says that it isn't ready but goes on serving, so that nobody comes in vain; then it closes.

    However often it is told; on SIGINT it closes at once.
    """

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self.seconds = seconds
        self.closes_at = inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or not self.started:
            super().handle_exit(sig, frame)
        elif self.closes_at == inf:
            self.config.loaded_app.state.services.watch.drain()
            self.closes_at = monotonic() + self.seconds

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """What has been loaded stays: it is not searched for garbage again, and the rest is less often."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or monotonic() >= self.closes_at
        return await super().on_tick(counter)


class Beside(uvicorn.Server):
    """A server beside the main one, which alone listens to signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Workers:
    """Several processes on one socket: one that dies is replaced, and told to end, each of them drains."""

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        self.config = config
        self.seconds = seconds
        self.ending = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT, or until one can't even start, which ends this process with the same code."""
        listener = self.config.bind_socket()
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._end)
        processes = [self._begun(listener) for _ in range(self.config.workers)]
        while not self.ending and all(process.exitcode != STARTUP_FAILURE for process in processes):
            processes = [process if process.is_alive() else self._begun(listener) for process in processes]
            connection.wait([process.sentinel for process in processes], LOOK_EVERY_SECONDS)
        listener.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        if not self.ending:
            sys.exit(STARTUP_FAILURE)

    def _end(self, _sig: int, _frame: FrameType | None) -> None:
        self.ending = True

    def _begun(self, listener: socket) -> SpawnProcess:
        process = get_context("spawn").Process(target=serve_on, args=(listener, self.config, self.seconds), daemon=True)
        process.start()
        return process


def serve_on(listener: socket, config: uvicorn.Config, seconds: float) -> None:
    """What each of several processes does."""
    Draining(config, seconds).run([listener])


def configured(application: Any, host: str, port: int, **options: Any) -> uvicorn.Config:
    """`application` is an ASGI application, or the import path of what makes one."""
    return uvicorn.Config(
        application,
        host=host,
        port=port,
        factory=isinstance(application, str),
        **{"http": Patient, **options},
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
    )
