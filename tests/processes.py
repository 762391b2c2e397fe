"""`gatehouse` as a process of its own, on a port that nobody else takes meanwhile."""

import asyncio
import os
import random
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import httpx

GATEHOUSE = Path(sys.executable).parent / "gatehouse"
# Below those that a machine gives to whoever calls out: a port stays free while its service is down for a moment.
PORTS = range(10_000, 32_000)
UP_WITHIN_SECONDS = 30
TOLD = 4000


def free_port() -> int:
    while True:
        port = random.choice(PORTS)  # noqa: S311  # any will do
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def log_of(folder: Path, word: str) -> Path:
    return folder / f"{word}.log"


async def spawn(*words: str, cwd: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    """What it says is added to a file of its first word's name."""
    with log_of(cwd, words[0]).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            GATEHOUSE, *words, cwd=cwd, env={"PATH": os.environ["PATH"], **environment}, stdout=log, stderr=log
        )


async def up(http: httpx.AsyncClient, path: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Until it answers; a RuntimeError with its last words, where it ends or takes too long."""
    until = time.monotonic() + UP_WITHIN_SECONDS
    while process.returncode is None and time.monotonic() < until:
        with suppress(httpx.TransportError):
            if (await http.get(path)).status_code == 200:
                return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"it is not up, exit {process.returncode}: {last_words(log)}")


def last_words(log: Path) -> str:
    return log.read_text()[-TOLD:]


def wait_for(url: str) -> None:
    """As `up`, for whoever has no loop."""
    until = time.monotonic() + UP_WITHIN_SECONDS
    while True:
        try:
            urlopen(url).close()  # noqa: S310  # our own loopback address
        except OSError:
            assert time.monotonic() < until, f"{url} does not answer"
            time.sleep(0.05)
        else:
            return
