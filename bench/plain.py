"""What anybody would write first: one FastAPI route for each baseline, without a store, a limit, a log or a promise."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from app.wire import Wire
from bench.upstream import invoice


class Invoice(BaseModel):
    id: str
    status: str
    amount: Decimal = Field(validation_alias="invoiceAmount")
    currency: str = Field(validation_alias="invoiceAssetCode")
    order_id: str | None = Field(validation_alias="externalOrderId")
    expires_at: datetime | None = Field(validation_alias="expireAt")
    created_at: datetime = Field(validation_alias="createdAt")
    completed_at: datetime | None = Field(validation_alias="completedAt")


def plain(upstream: str) -> FastAPI:
    clients = {
        "stock": httpx.AsyncClient(base_url=upstream),
        "own": httpx.AsyncClient(base_url=upstream, transport=Wire()),
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for client in clients.values():
            await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready", response_model=Invoice)
    async def ready() -> object:
        """Nobody is asked."""
        return Invoice.model_validate(invoice("1"))

    @app.get("/own/{id}", response_model=Invoice)
    async def own(id: str) -> object:
        """The provider is asked over our transport."""
        return Invoice.model_validate((await clients["own"].get(f"/v1/invoice/{id}")).json()["data"])

    @app.get("/stock/{id}", response_model=Invoice)
    async def stock(id: str) -> object:
        """The provider is asked over httpx's own."""
        return Invoice.model_validate((await clients["stock"].get(f"/v1/invoice/{id}")).json()["data"])

    return app


if __name__ == "__main__":
    uvicorn.run(plain(sys.argv[2]), port=int(sys.argv[1]), loop="asyncio", access_log=False, log_level="error")
