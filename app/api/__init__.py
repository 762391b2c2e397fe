"""Doors: how callers come in over HTTP, and how everything is told to them."""

from fastapi import FastAPI

from app.api import advice, docs, health, invoices, metrics, problems, providers
from app.api.admission import Admission
from app.api.keys import Keys
from app.api.openapi import DESCRIPTION, TAGS
from app.observe import Observed


def install(app: FastAPI, *, public_url: str, keys: Keys) -> None:
    """Every route, the hot ones first, and what they share. `app.state.services` is there once the app has started."""
    app.state.public_url = public_url
    app.state.keys = keys
    app.state.draining = False
    app.description = DESCRIPTION
    app.openapi_tags = TAGS
    app.servers = [{"url": "/", "description": "This deployment"}]
    app.router.redirect_slashes = False
    for router in (invoices.router, health.router, providers.router, metrics.router, advice.router):
        app.include_router(router)
    docs.install(app)
    app.add_middleware(Admission)
    problems.install(app)
    app.add_middleware(Observed)
