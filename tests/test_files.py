"""The files of our pages are told whole, whatever part of one is asked for."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.world import World, open_world

pytestmark = pytest.mark.anyio

FILES = ["/docs/static/swagger-ui.css", "/ops/static/htmx-LICENSE.txt"]
PARTS = ["bytes=0-5", "bytes=0-5,7-9", "bytes=99999999-", "bytes=a-", "lines=1", "bytes=5-0", "nonsense"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db") as world:
        yield world


@pytest.mark.parametrize("path", FILES)
async def test_a_part_of_a_file_is_the_whole(path: str, world: World) -> None:
    whole = await world.http.get(path)
    for part in PARTS:
        for more in ({}, {"If-Range": whole.headers["etag"]}):
            answer = await world.http.get(path, headers={"Range": part, **more})
            assert (answer.status_code, answer.content) == (200, whole.content)


@pytest.mark.parametrize("path", FILES)
async def test_a_file_that_is_known_is_not_told_again(path: str, world: World) -> None:
    etag = (await world.http.get(path)).headers["etag"]
    answer: httpx.Response = await world.http.get(path, headers={"If-None-Match": etag, "Range": "bytes=a-"})
    assert (answer.status_code, answer.content) == (304, b"")
