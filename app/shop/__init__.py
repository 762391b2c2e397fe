"""The demo shop: a small merchant that knows the payment service by its public API alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.shop.doors import Doors
from app.shop.orders import Orders
from app.shop.pages import HERE, Guarded, Pages
from app.shop.payments import Payments, Trouble
from app.shop.till import NotSold, Till

__all__ = ["create_shop"]


def create_shop(
    *, url: str, api: str, key: str, webhook_secret: str, http: httpx.AsyncClient | None = None
) -> Starlette:
    """The shop at its own public address `url`; `api` is the payment service's, `webhook_secret` its `whsec_…`.

    A client that was not given is closed by the lifespan, which an app that mounts this one has to run.
    """
    url, api = url.rstrip("/"), api.rstrip("/")
    phone = http or httpx.AsyncClient(trust_env=False)
    payments = Payments(api=api, key=SecretStr(key), http=phone)
    doors = Doors(
        till=Till(url=url, payments=payments, orders=Orders()), pages=Pages(url), webhook=Webhook(webhook_secret)
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if http is None:
            await phone.aclose()

    return Starlette(
        routes=[
            Route("/", doors.front),
            Route("/orders", doors.buy, methods=["POST"]),
            Route("/orders/{id}", doors.show),
            Route("/orders/{id}/pay", doors.pay, methods=["POST"]),
            Route("/orders/{id}/state", doors.state),
            Route("/hooks", doors.hook, methods=["POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[Middleware(Guarded, pay_pages=f"{origin(url)} {origin(api)}")],
        exception_handlers={
            HTTPException: doors.refused,
            NotSold: doors.not_sold,
            Trouble: doors.closed,
            ClientDisconnect: doors.gone,
        },
        lifespan=lifespan,
    )


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
