"""An application on a socket, in the test's own loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from app.simulator.wire import SandboxProtocol


@asynccontextmanager
async def serving(application: Any, listener: socket.socket) -> AsyncIterator[None]:
    """uvicorn's protocol without its server, which sleeps a while at each end; what is unanswered then is dropped."""
    config = uvicorn.Config(application, log_config=None, access_log=False, ws="none", http=SandboxProtocol)
    config.load()
    lifespan, state = config.lifespan_class(config), ServerState()
    await lifespan.startup()

    def protocol() -> SandboxProtocol:
        return SandboxProtocol(config=config, server_state=state, app_state=lifespan.state)

    server = await asyncio.get_running_loop().create_server(protocol, sock=listener)
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            _, busy = await asyncio.wait(state.tasks, timeout=1)
            for task in busy:
                task.cancel()
        await lifespan.shutdown()
