"""Killed at any moment, nothing that was answered is lost, and nothing is made twice."""

from pathlib import Path

import pytest

from tests.crash import open_crash
from tests.world import played

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

KILLS = 6


async def survive(folder: Path, database_url: str) -> None:
    async with played() as sandbox, open_crash(folder, database_url, sandbox) as crash:
        tally = await crash.run(KILLS, seed=1)
    assert tally.kills == KILLS + 1
    assert len(tally.sent) > KILLS
    assert not any(tally.verdict.values()), tally.verdict


async def test_on_sqlite(tmp_path: Path) -> None:
    await survive(tmp_path, f"sqlite:///{tmp_path}/gatehouse.db")


async def test_on_postgresql(tmp_path: Path, postgresql_url: str) -> None:
    await survive(tmp_path, postgresql_url)
