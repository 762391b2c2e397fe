"""Doors: how callers come in over HTTP, and how everything is told to them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from opentelemetry.trace import Tracer

from app.api import advice, docs, events, health, invoices, metrics, notifications, pay, problems, providers
from app.api.admission import Admission
from app.api.openapi import DESCRIPTION, TAGS
from app.api.rate_limits import Limited, Limits
from app.observe import Figures, Observed, Spanned
from app.service.keys import Keys

ClientOf: TypeAlias = Callable[[str], str | None]

# What a storefront's script may send and read.
BROWSERS: Mapping[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-Id"],
    "expose_headers": [
        "ETag",
        "Location",
        "Retry-After",
        "X-Request-Id",
        "Idempotency-Replayed",
        "Gatehouse-Route",
        "RateLimit",
        "RateLimit-Policy",
    ],
    "max_age": 3600,
}


def nobody(_client_secret: str) -> None:
    """For a service without shoppers."""


def install(
    app: FastAPI,
    *,
    public_url: str,
    keys: Keys,
    client_of: ClientOf = nobody,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    figures: Figures | None = None,
    tracer: Tracer | None = None,
) -> None:
    """Every route, the hot ones first, and what they share. `app.state.services` is there once the app has started.

    `client_of` tells which invoice a client secret is for; `origins` are those whose scripts may call.
    """
    app.state.limits = limits
    app.state.figures = figures or Figures()
    app.state.public_url = public_url
    app.state.keys = keys
    app.state.client_of = client_of
    app.description = DESCRIPTION
    app.openapi_tags = TAGS
    app.servers = [{"url": "/", "description": "This deployment"}]
    app.router.redirect_slashes = False
    for door in (invoices, notifications, pay, events, health, providers, metrics, advice):
        app.include_router(door.router)
    docs.install(app)
    if limits:
        app.add_middleware(Limited, limits=limits)
    problems.install(app)
    app.add_middleware(Admission)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, **BROWSERS)
    app.add_middleware(Observed, figures=app.state.figures)
    if tracer is not None:
        app.add_middleware(Spanned, tracer=tracer)
