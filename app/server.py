"""How uvicorn serves here: told to end, it drains before it closes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn


class Draining(uvicorn.Server):
    """On SIGTERM it says that it isn't ready but goes on serving, so that nobody comes in vain; then it closes."""

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self.seconds = seconds
        self.closes_at = inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self.closes_at < inf:
            super().handle_exit(sig, frame)
            return
        self.config.loaded_app.state.services.watch.drain()
        self.closes_at = monotonic() + self.seconds

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or monotonic() >= self.closes_at
        return await super().on_tick(counter)


class Beside(uvicorn.Server):
    """A server beside the main one, which alone listens to signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def configured(application: Any, host: str, port: int, **options: Any) -> uvicorn.Config:
    """`application` is an ASGI application, or the import path of what makes one."""
    return uvicorn.Config(
        application,
        host=host,
        port=port,
        factory=isinstance(application, str),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        **options,
    )
