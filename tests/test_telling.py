"""Several workers on one database tell everything, each thing once; killed in the midst of it, they lose nothing."""

from pathlib import Path

import pytest

from tests.telling import open_telling

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


async def test_two_workers_tell_each_thing_once(tmp_path: Path, postgresql_url: str) -> None:
    async with open_telling(tmp_path, postgresql_url) as telling:
        await telling.run(invoices=60, kills=0)
    assert not any(telling.verdict.values()), telling.verdict


async def test_killed_workers_lose_nothing(tmp_path: Path, postgresql_url: str) -> None:
    async with open_telling(tmp_path, postgresql_url) as telling:
        telling.main.seconds = 0.2
        await telling.run(invoices=30, kills=4)
    verdict = telling.verdict
    assert not any(verdict[what] for what in ("not told", "out of order", "unsigned")), verdict
