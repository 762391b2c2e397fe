"""A terminal beside a running sandbox, for tests of the command line."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from typer.testing import CliRunner, Result

from app.cli import app as command
from tests.processes import GATEHOUSE, free_port, wait_for


@dataclass
class Terminal:
    folder: Path
    service: int
    sandbox: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service}"

    def run(self, *words: str, code: int = 0, given: str = "", environment: Mapping[str, str] = {}) -> Result:
        """In this process, since starting one takes longer than what it does."""
        told = {"GATEHOUSE_URL": self.url, **environment}
        logging = structlog.get_config()
        try:
            done = CliRunner().invoke(command, words, env=told, input=given)
        finally:
            structlog.configure(**logging)
        assert done.exit_code == code, (done.exit_code, done.output, done.exception)
        return done

    def process(self, *words: str, code: int, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(GATEHOUSE), *words],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run(*words, "--json").stdout)
        return found

    def asked(self, path: str) -> dict[str, object]:
        """What the API itself answers."""
        key = {"Authorization": "Bearer sandbox-admin-key"}
        found: dict[str, object] = httpx.get(f"{self.url}{path}", headers=key).raise_for_status().json()
        return found

    def control(self, path: str, **body: object) -> None:
        httpx.post(f"http://127.0.0.1:{self.sandbox}/_control/{path}", json=body).raise_for_status()


@contextmanager
def served(folder: Path, **environment: str) -> Iterator[Terminal]:
    """A terminal in a folder, with the sandbox running."""
    service, sandbox = free_port(), free_port()
    serve = [str(GATEHOUSE), "serve", "--port", str(service), "--sandbox-port", str(sandbox)]
    quick = {"PATH": os.environ["PATH"], "GATEHOUSE_DRAIN": "0,1", "GATEHOUSE_SETTLE": "1", **environment}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(serve, cwd=folder, env=quick, stdout=log, stderr=log) as it,
    ):
        try:
            wait_for(f"http://127.0.0.1:{service}/readyz")
            yield Terminal(folder, service, sandbox)
        finally:
            it.terminate()
