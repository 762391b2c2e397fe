"""The README's session works as printed, against the service as `make run` starts it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import GATEHOUSE, free_port, wait_for

README = Path(__file__).parent.parent / "README.md"
SESSION = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
MARK = "-- end of one command --"


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    service, sandbox = free_port(), free_port()
    command = [str(GATEHOUSE), "serve", f"--port={service}", f"--sandbox-port={sandbox}"]
    with subprocess.Popen(command, cwd=tmp_path_factory.mktemp("run"), stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{service}/readyz")
            yield service, sandbox
        finally:
            process.terminate()


def turns() -> list[tuple[str, str]]:
    """Each command with what is printed below it."""
    found: list[tuple[str, str]] = []
    for line in "".join(SESSION).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def test_the_session_works_as_printed(ports: tuple[int, int]) -> None:
    script = f"\necho; echo '{MARK}'\n".join(command for command, _ in turns())
    for printed, port in zip(("8000", "8001"), ports, strict=True):
        script = script.replace(f"127.0.0.1:{printed}", f"127.0.0.1:{port}")
    run = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=README.parent,
        env={**os.environ, "GATEHOUSE_URL": f"http://127.0.0.1:{ports[0]}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    for (command, expected), actual in zip(turns(), run.stdout.split(MARK), strict=True):
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        assert re.fullmatch(pattern, actual.strip(), re.DOTALL), f"{command}\nprinted {actual}\nexpected {expected}"
