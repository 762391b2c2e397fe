"""A terminal beside a running sandbox, for tests of the command line."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import app as command
from app.cli import main
from tests.logs import logging_kept
from tests.processes import Served, ran, served


@dataclass
class Terminal:
    folder: Path
    beside: Served

    def run(self, *words: str, code: int = 0, given: str = "", environment: Mapping[str, str] = {}) -> Result:
        """In this process, since starting one takes longer than what it does."""
        told = {"GATEHOUSE_URL": self.beside.url, **environment}
        with logging_kept():
            done = CliRunner().invoke(command, words, env=told, input=given)
        assert done.exit_code == code, (done.exit_code, done.output, done.exception)
        return done

    def process(self, *words: str, code: int, environment: Mapping[str, str]) -> str:
        """What it says where only a process can show it."""
        done = ran(self.folder, *words, **environment)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr

    def json(self, *words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run(*words, "--json").stdout)
        return found

    def asked(self, path: str) -> dict[str, object]:
        """What the API itself answers."""
        key = {"Authorization": "Bearer sandbox-admin-key"}
        found: dict[str, object] = httpx.get(f"{self.beside.url}{path}", headers=key).raise_for_status().json()
        return found

    def control(self, path: str, **body: object) -> None:
        httpx.post(f"{self.beside.sandbox}/_control/{path}", json=body).raise_for_status()


@contextmanager
def open_terminal(folder: Path, **environment: str) -> Iterator[Terminal]:
    """In a folder, with the sandbox running."""
    with served(folder, GATEHOUSE_SETTLE="1", **environment) as beside:
        yield Terminal(folder, beside)


def ended(folder: Path, *words: str, **environment: str) -> tuple[object, str]:
    """The exit code of a `gatehouse` that ends by itself, in this process, and all that it says."""
    said = TextIOWrapper(BytesIO(), write_through=True)
    with logging_kept(), pytest.MonkeyPatch.context() as here, redirect_stdout(said), redirect_stderr(said):
        here.chdir(folder)
        here.setattr(sys, "argv", ["gatehouse", *words])
        for name, text in environment.items():
            here.setenv(name, text)
        with pytest.raises(SystemExit) as exited:
            main()
        said.seek(0)
        return exited.value.code, said.read()
