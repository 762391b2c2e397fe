"""`gatehouse` as a process of its own, on a port that nobody else takes meanwhile."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import httpx

from app.simulator import credentials
from app.wire import Wire

GATEHOUSE = str(Path(sys.executable).parent / "gatehouse")
# Below those that a machine gives to whoever calls out: a port stays free while its service is down for a moment.
PORTS = range(10_000, 32_000)
UP_WITHIN_SECONDS = 30
ENDED_WITHIN_SECONDS = 20
TOLD = 4000
KEY = "crash-test-write-key"


@dataclass(frozen=True)
class Served:
    """A service and the sandbox beside it, each at an address of its own."""

    url: str
    sandbox: str
    log: Path


@contextmanager
def served(folder: Path, **environment: str) -> Iterator[Served]:
    """`gatehouse serve` as anybody would start it; told to end with the block, it must end well."""
    it = Served(address(), address(), log_of(folder, "serve"))
    command = [GATEHOUSE, "serve", f"--port={port_of(it.url)}", f"--sandbox-port={port_of(it.sandbox)}"]
    given = within({"GATEHOUSE_DRAIN": "0,1", **environment})
    with (
        it.log.open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=given, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(f"{it.url}/readyz", process, it.log)
            yield it
            process.terminate()
            assert process.wait(ENDED_WITHIN_SECONDS) == 0, last_words(it.log)
        finally:
            process.kill()


def ran(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What has ended by itself."""
    given = within(environment)
    command = [GATEHOUSE, *words]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=50, check=False)


async def spawn(*words: str, cwd: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    """What it says is added to a file of its first word's name."""
    with log_of(cwd, words[0]).open("ab") as log:
        given = within(environment)
        return await asyncio.create_subprocess_exec(GATEHOUSE, *words, cwd=cwd, env=given, stdout=log, stderr=log)


def within(environment: dict[str, str]) -> dict[str, str]:
    """This environment, and nothing of ours."""
    return {"PATH": os.environ["PATH"], **environment}


def address() -> str:
    return f"http://127.0.0.1:{free_port()}"


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


def free_port() -> int:
    while True:
        port = random.choice(PORTS)  # noqa: S311  # any will do
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def log_of(folder: Path, word: str) -> Path:
    return folder / f"{word}.log"


async def up(http: httpx.AsyncClient, path: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Until it answers; a RuntimeError with its last words, where it ends or takes too long."""
    until = time.monotonic() + UP_WITHIN_SECONDS
    while process.returncode is None and time.monotonic() < until:
        with suppress(httpx.TransportError):
            if (await http.get(path)).status_code == 200:
                return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"it is not up, exit {process.returncode}: {last_words(log)}")


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """As `up`, for whoever has no loop."""
    until = time.monotonic() + UP_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError):
            urlopen(url).close()  # noqa: S310  # our own loopback address
            return
        time.sleep(0.05)
    raise RuntimeError(f"it is not up, exit {process.returncode}: {last_words(log)}")


def last_words(log: Path) -> str:
    return log.read_text()[-TOLD:]


def production(sandbox: str, database_url: str, *kinds: str) -> dict[str, str]:
    """The environment of a service that takes simulators of these kinds for real providers, and knows `KEY`."""
    return {
        **accounts_at(sandbox, *kinds),
        "GATEHOUSE_API_KEYS": f"shop:write:{KEY}",
        "GATEHOUSE_SECRET_KEY": "k" * 32,
        "GATEHOUSE_DATABASE_URL": database_url,
        "GATEHOUSE_ALLOW_PRIVATE_NETWORKS": "on",
        "GATEHOUSE_RATE_LIMIT": "off",
        "GATEHOUSE_LOG_LEVEL": "error",
    }


def accounts_at(sandbox: str, *kinds: str) -> dict[str, str]:
    """As an environment gives them."""
    return {
        f"GATEHOUSE_PROVIDERS__{kind.upper()}__{name.upper()}": value
        for kind, account in credentials(sandbox).items()
        for name, value in account.items()
        if kind in kinds
    }


def caller(url: str) -> httpx.AsyncClient:
    """Over the service's own transport: stock httpx loses its pool when so many calls are cut off."""
    return httpx.AsyncClient(transport=Wire(), base_url=url, headers={"Authorization": f"Bearer {KEY}"})
