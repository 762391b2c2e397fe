"""Callers of each role, and small applications behind the real doors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from app import api
from app.service.keys import Caller, Keys, Role
from app.settings import SANDBOX_KEY as ADMIN
from tests.world import SERVICE, World, open_world

SECRETS = {"read": "read-key-0123456789", "write": "write-key-0123456789", "admin": ADMIN}
ROLES = list(SECRETS)
JSON = {"Content-Type": "application/json"}


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[role]}"}


def keys() -> Keys:
    return Keys(
        (SecretStr(secret), Caller(name=f"the {role}", role=Role[role.upper()])) for role, secret in SECRETS.items()
    )


def behind_doors(app: FastAPI) -> FastAPI:
    """The routes of an application with all that the real ones have around them."""
    api.install(app, public_url=SERVICE, keys=keys())
    return app


def bare() -> FastAPI:
    return FastAPI(title="Small", version="1", docs_url=None, redoc_url=None, openapi_url=None)


@asynccontextmanager
async def knocking(app: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url=SERVICE, **options) as client:
        yield client


@asynccontextmanager
async def world_of_roles(folder: Path, **settings: Any) -> AsyncIterator[World]:
    api_keys = ",".join(f"the {role}:{role}:{secret}" for role, secret in SECRETS.items())
    async with open_world(f"sqlite:///{folder}/gatehouse.db", api_keys=api_keys, **settings) as world:
        yield world


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem that says what is expected, in the form that every problem has."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), answer.text
    assert body["type"] == f"{SERVICE}/problems/{code}"
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def pointers(body: dict[str, Any]) -> list[str]:
    return sorted(fault["pointer"] for fault in body["errors"])
