"""The sandbox: every fake provider on one stage."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from app.simulator.control import Control, Invalid
from app.simulator.desk import Desk, Notice, Order
from app.simulator.faults import TRICKS
from app.simulator.pages import Bill, index_page
from app.simulator.player import Operation, Player, Refused, iso
from app.simulator.rules import TEXT, URL, Rule, broken, flag, number, one_of, optional, whole
from app.simulator.stage import html, stage
from app.simulator.wire import Ask, Reply, SandboxProtocol, dump

__all__ = [
    "TEXT",
    "URL",
    "Ask",
    "Bill",
    "Desk",
    "Notice",
    "Operation",
    "Order",
    "Player",
    "Refused",
    "Reply",
    "Rule",
    "SandboxProtocol",
    "broken",
    "create_sandbox",
    "credentials",
    "dump",
    "flag",
    "iso",
    "number",
    "one_of",
    "optional",
    "whole",
]

BODY_LIMIT = 1024 * 1024


def players() -> dict[str, type[Player]]:
    """Every fake provider, by the name of its file."""
    names = sorted(found.name for found in iter_modules([str(Path(__file__).parent.with_name("simulators"))]))
    return {name: _player(vars(import_module(f"app.simulators.{name}"))) for name in names}


def _player(names: Mapping[str, Any]) -> type[Player]:
    kinds = [kind for kind in names.values() if isinstance(kind, type) and issubclass(kind, Player)]
    return next(kind for kind in kinds if kind is not Player)


def credentials(url: str) -> dict[str, dict[str, str]]:
    """The settings that each fake provider accepts, by kind; `url` is the sandbox's address."""
    return {
        name: {"base_url": f"{url}/{name}{player.base}"}
        | {setting: value.replace("{url}", url) for setting, value in player.credentials.items()}
        for name, player in players().items()
    }


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_sandbox(
    url: str,
    *,
    notify: str = "http://127.0.0.1:8000",
    http: httpx.AsyncClient | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Starlette:
    """The sandbox at its own public address `url`; `notify` is the service's.

    Serve it with `http=SandboxProtocol`, or faults cannot break connections. Its lifespan ends what runs beside it.
    """
    phone = http or httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
    cast = {
        name: player(Desk(url=f"{url}/{name}", notify=notify, http=phone, clock=clock))
        for name, player in players().items()
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for player in cast.values():
            player.desk.clear()
        if http is None:
            await phone.aclose()

    async def index(_: Request) -> Response:
        return html(index_page(url, credentials(url), ["status:<code>", *TRICKS]))

    controls = [Mount(f"/_control/{name}", routes=Control(player).routes()) for name, player in cast.items()]
    stages = [Mount(f"/{name}", app=stage(player)) for name, player in cast.items()]
    return Starlette(
        routes=[Route("/", index), *controls, *stages],
        exception_handlers={Invalid: _invalid, 404: _not_here},
        lifespan=lifespan,
        max_body_size=BODY_LIMIT,
    )


def _invalid(_: Request, invalid: Exception) -> Response:
    errors = invalid.errors if isinstance(invalid, Invalid) else {}
    return _errors(422, {f"/{name}" if name else "": message for name, message in errors.items()})


def _not_here(request: Request, _: Exception) -> Response:
    return _errors(404, {"": f"nothing at {request.method} {request.url.path}; / says what is here"})


def _errors(status: int, errors: Mapping[str, str]) -> Response:
    return JSONResponse(
        {"errors": [{"pointer": pointer, "message": message} for pointer, message in errors.items()]}, status
    )
