"""The README's session works as printed, against the service as `make run` starts it."""

import os
import re
import subprocess
from pathlib import Path

from tests.processes import served

README = Path(__file__).parent.parent / "README.md"
SESSION = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
SERVICE, SANDBOX = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
MARK = "-- end of one command --"


def turns() -> list[tuple[str, str]]:
    """Each command with what is printed below it."""
    found: list[tuple[str, str]] = []
    for line in "".join(SESSION).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def test_the_session_works_as_printed(tmp_path: Path) -> None:
    script = f"\necho; echo '{MARK}'\n".join(command for command, _ in turns())
    with served(tmp_path) as it:
        run = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script.replace(SERVICE, it.url).replace(SANDBOX, it.sandbox)],
            cwd=README.parent,
            env={**os.environ, "GATEHOUSE_URL": it.url, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
    for (command, expected), actual in zip(turns(), run.stdout.split(MARK), strict=True):
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        assert re.fullmatch(pattern, actual.strip(), re.DOTALL), f"{command}\nprinted {actual}\nexpected {expected}"
