"""wrk with a script of ours, which tells what came as one line of JSON."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any


def is_here() -> bool:
    """Whether there is one; how to get it is said where there is none."""
    found = shutil.which("wrk") is not None
    if not found:
        print("wrk is not here: apt-get install wrk", file=sys.stderr)  # noqa: T201
    return found


async def asked(script: Path, url: str, connections: int, seconds: float, *words: str) -> dict[str, Any]:
    """So many callers, each of whom asks again as soon as it has its answer; `words` are the script's."""
    wrk = await asyncio.create_subprocess_exec(
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds:.0f}s"),
        *("--timeout", "10s", "--script", str(script), url, "--", *words),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await wrk.communicate()
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found
