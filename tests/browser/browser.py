"""A real browser before the service on a socket; whatever it complains of fails the test."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright

from tests.serving import serving
from tests.world import World

CHROMIUM = Path("/usr/bin/chromium")
HERE = Path(__file__).parent
AXE = HERE / "axe-4.14.1.min.js"
SERIOUS = {"serious", "critical"}
PATIENT_MS = 5_000

# Chromium tells of every answer that is an error; a test that wants one says which.
FAILED_TO_LOAD = "Failed to load resource: the server responded with a status of"


@dataclass
class Sight:
    """A page of a browser, and what went wrong on it. `allowed` are beginnings of complaints that a test has wanted."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()

    async def open(self, path: str) -> None:
        await self.page.goto(f"{self.url}{path}")

    def heard(self, complaint: str) -> None:
        if not complaint.startswith(self.allowed or ("\0",)):
            self.complaints.append(complaint)

    def asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc and not request.url.startswith("data:"):
            self.heard(f"asked another host: {request.url}")

    async def faults(self) -> list[str]:
        """What axe finds that keeps people from using the page."""
        await self.page.evaluate(AXE.read_text())
        found: list[dict[str, Any]] = (await self.page.evaluate("axe.run({resultTypes: ['violations']})"))["violations"]
        return [f"{one['id']}: {node['html']}" for one in found if one["impact"] in SERIOUS for node in one["nodes"]]


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Skips where there is no browser to try with, but in CI there must be one."""
    if not os.access(CHROMIUM, os.X_OK):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"there is no {CHROMIUM}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """The address of a world's service on a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with serving(quiet(world.app), listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def quiet(app: Any) -> Any:
    """The lifespan is the world's, and not run again."""

    async def within(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for done in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{done}.complete"})
        else:
            await app(scope, receive, send)

    return within


@asynccontextmanager
async def looking(browser: Browser, url: str, **options: Any) -> AsyncIterator[Sight]:
    """A page of its own, and nothing may be wrong with it in the end."""
    context: BrowserContext = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(PATIENT_MS)
    sight = Sight(page=await context.new_page(), url=url)
    sight.page.on("console", lambda said: sight.heard(said.text) if said.type in {"error", "warning"} else None)
    sight.page.on("pageerror", lambda error: sight.heard(str(error)))
    context.on("request", sight.asked)
    try:
        yield sight
        assert not sight.complaints, sight.complaints
    finally:
        await context.close()
