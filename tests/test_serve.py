"""The command as it is run: what stops its start, and how it ends."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.crash import Crash, open_crash
from tests.processes import caller, ran
from tests.terminal import ended
from tests.world import ORDERS, UNTRUSTING, played

pytestmark = pytest.mark.anyio

PRODUCTION = {
    "GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": "k",
    "GATEHOUSE_API_KEYS": "shop:write:0123456789abcdef",
    "GATEHOUSE_SECRET_KEY": "k" * 32,
}


WRONG = [
    ({"GATEHOUSE_MAX_AGES": "2"}, (), "GATEHOUSE_MAX_AGES"),
    ({"GATEHOUSE_SECRET_KEY": "short-secret"}, (), "GATEHOUSE_SECRET_KEY"),
    ({"GATEHOUSE_API_KEYS": "shop:write:short-secret"}, (), "GATEHOUSE_API_KEYS"),
    ({"GATEHOUSE_SANDBOX": "off"}, (), "no provider"),
    ({}, ("--host", "0.0.0.0"), "no provider"),
    ({**PRODUCTION, "GATEHOUSE_SANDBOX": "on"}, (), "GATEHOUSE_SANDBOX"),
    ({**PRODUCTION, "GATEHOUSE_SECRET_KEY": ""}, (), "GATEHOUSE_SECRET_KEY"),
    ({**PRODUCTION, "GATEHOUSE_PROVIDERS__TURINPAY__APY_KEY": "short-secret"}, (), "TURINPAY__APY_KEY"),
    ({**PRODUCTION, "GATEHOUSE_PROVIDERS__NOBODY__API_KEY": "short-secret"}, (), "GATEHOUSE_PROVIDERS__NOBODY"),
    ({**PRODUCTION, "GATEHOUSE_DATABASE_URL": "mysql://u:short-secret@h/d"}, (), "mysql"),
    (PRODUCTION, ("--workers", "2"), "--workers"),
]


def refused(folder: Path, environment: dict[str, str], *words: str) -> str:
    """What a process says whose start is stopped."""
    run = ran(folder, "serve", *words, **environment)
    assert run.returncode == 78, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


@pytest.mark.parametrize(("environment", "words", "named"), WRONG)
def test_a_wrong_setting_stops_the_start_by_its_name(
    tmp_path: Path, environment: dict[str, str], words: tuple[str, ...], named: str
) -> None:
    """In this process, since starting one takes longer than what it does."""
    code, said = ended(tmp_path, "serve", *words, **environment)
    assert (code, named in said, "short-secret" in said) == (78, True, False), said


@pytest.mark.parametrize(("environment", "words", "named"), [WRONG[0], WRONG[-1]])
def test_so_it_does_as_it_is_run(
    tmp_path: Path, environment: dict[str, str], words: tuple[str, ...], named: str
) -> None:
    assert named in refused(tmp_path, environment, *words)


@pytest.fixture
async def crash(tmp_path: Path) -> AsyncIterator[Crash]:
    url = f"sqlite:///{tmp_path}/gatehouse.db"
    async with played() as sandbox, open_crash(tmp_path, url, sandbox) as crash:
        crash.environment |= {"GATEHOUSE_DRAIN": "1,5", "GATEHOUSE_PROVIDER_TIMEOUT": "5"}
        yield crash


async def test_told_to_end_it_drains_and_loses_nothing(crash: Crash) -> None:
    async with caller(crash.service) as http:
        await crash.start(http)
        assert crash.process is not None
        fault = {"operation": "create", "fault": "slow", "seconds": 2}
        async with httpx.AsyncClient(base_url=crash.sandbox) as sandbox:
            await sandbox.post("/_control/generic/faults", json=fault)
        under_way = asyncio.create_task(http.post("/v1/invoices", json={"provider": "generic", **ORDERS["generic"]}))
        await asyncio.sleep(0.3)
        crash.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert (await http.get("/readyz")).status_code == 503
        assert (await crash.create(http, "bluetape-1")).status_code == 201, "it still serves whoever comes"
        assert (await under_way).status_code == 201
        assert await asyncio.wait_for(crash.process.wait(), 10) == 0
        with pytest.raises(httpx.TransportError):
            await http.get("/livez")


@pytest.fixture
async def several(tmp_path: Path, postgresql_url: str) -> AsyncIterator[Crash]:
    async with played() as sandbox, open_crash(tmp_path, postgresql_url, sandbox) as crash:
        crash.environment |= {"GATEHOUSE_DRAIN": "5,5"}
        yield crash


async def test_told_to_end_several_processes_drain_too(several: Crash) -> None:
    async with caller(several.service) as http:
        await several.start(http, "--workers", "2")
        assert several.process is not None
        several.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(2):
            while await states(several, times=5) != {503}:
                await asyncio.sleep(0.05)
        assert (await several.create(http, "generic-1")).status_code == 201
        for process in (several.process.pid, *children(several.process.pid)):
            os.kill(process, signal.SIGTERM)
        assert await states(several, times=2) == {503}, "however often they are told, and by whom"
        assert await asyncio.wait_for(several.process.wait(), 15) == 0
        with pytest.raises(httpx.TransportError):
            await http.get("/livez")


async def test_a_process_that_dies_is_replaced(several: Crash) -> None:
    async with caller(several.service) as http:
        await several.start(http, "--workers", "2")
        assert several.process is not None
        workers = children(several.process.pid)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        await several.up(http)
        assert len(children(several.process.pid) - workers) == 2


async def states(crash: Crash, times: int) -> set[int]:
    """What readiness is said to be, over a new connection each time."""
    found = set()
    for _ in range(times):
        async with httpx.AsyncClient(base_url=crash.service, verify=UNTRUSTING) as http:
            found.add((await http.get("/readyz")).status_code)
    return found


def children(pid: int) -> set[int]:
    """Its processes that serve; the others only look after them."""
    found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return {child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


async def test_a_second_process_on_one_sqlite_file_is_refused(crash: Crash) -> None:
    async with caller(crash.service) as http:
        await crash.start(http)
        said = await asyncio.to_thread(refused, crash.folder, crash.environment)
        assert "gatehouse.db" in said or "SQLite" in said


async def test_every_acknowledged_create_is_on_disk(crash: Crash) -> None:
    async with caller(crash.service) as http:
        await crash.start(http)
        made = (await crash.create(http, "generic-1")).json()["id"]
        await crash.kill()
        with sqlite3.connect(crash.folder / "gatehouse.db") as database:
            assert database.execute("SELECT id FROM invoices").fetchall() == [(made,)]
        await crash.start(http)
        assert (await http.get(f"/v1/invoices/{made}")).status_code == 200
