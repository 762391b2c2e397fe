"""One browser for all tests of a module, in one loop."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.browser.browser import launched


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser
