"""A new provider is what one command writes: it works as it is, and needs no other edit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app as command
from app.scaffold import NotWritten, write
from tests.terminal import open_terminal

ROOT = Path(__file__).parent.parent
CHECKED = ("tests/test_cases.py", "tests/test_registry.py", "tests/test_house.py", "tests/test_simulators.py")
# What is about this provider, and what is about all of them.
ABOUT = "acme or (test_house and (provider or kind or word)) or credentials_are_settings"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is in the repository."""
    folder: Path = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],  # noqa: S607  # whichever there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def written(checkout: Path) -> list[str]:
    with pytest.MonkeyPatch.context() as here:
        here.chdir(checkout)
        done = CliRunner().invoke(command, ["new-provider", "acme"])
    assert done.exit_code == 0, done.stderr
    return done.stdout.split()


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env=here(checkout),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def here(checkout: Path) -> dict[str, str]:
    """Where the copy's own code is found before any other."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere"}


def test_three_things_are_written(written: list[str]) -> None:
    kinds = {re.sub(r"[^/]*$", "", name) for name in written}
    assert kinds == {"app/providers/", "app/simulators/", "tests/cases/acme/"}


@pytest.mark.timeout(120)
def test_it_passes_the_tests_of_every_provider(checkout: Path, written: list[str]) -> None:
    done = run(checkout, "-m", "pytest", "-q", "-k", ABOUT, "-p", "no:cacheprovider", *CHECKED)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.rpartition(" passed")[0].split()[-1]) > 30


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check")], ids=" ".join)
def test_it_is_written_as_the_rest_is(checkout: Path, written: list[str], command: tuple[str, ...]) -> None:
    done = run(checkout, "-m", *command, "--no-cache", "app/providers/acme.py", "app/simulators/acme.py")
    assert done.returncode == 0, done.stdout


def test_an_invoice_of_it_is_paid_in_the_sandbox(checkout: Path, written: list[str], tmp_path: Path) -> None:
    with open_terminal(tmp_path, PYTHONPATH=str(checkout), PYTHONDONTWRITEBYTECODE="1") as terminal:
        created = terminal.json("invoices", "create", "--provider", "acme", "--amount", "5.00", "--currency", "EUR")
        assert created["status"] == "pending"
        assert terminal.run("invoices", "checkout", str(created["id"])).stdout.startswith("http")
        terminal.control("acme/settle", reference=created["provider_invoice_id"], outcome="paid", notify="none")
        assert terminal.json("invoices", "get", str(created["id"]), "--refresh")["status"] == "completed"


def test_nothing_is_written_over(checkout: Path, written: list[str]) -> None:
    ours = (checkout / written[0]).read_text()
    with pytest.raises(NotWritten, match="already"):
        write("acme", checkout)
    assert (checkout / written[0]).read_text() == ours


def test_a_bad_name_is_wrong_usage() -> None:
    done = CliRunner().invoke(command, ["new-provider", "Acme"])
    assert done.exit_code == 2
    assert "small letters" in done.stderr


@pytest.mark.parametrize(
    "name", ["Acme", "a", "class", "yield", "../evil", "a-b", "1st", "", "sellapp", "order", "pay"]
)
def test_a_bad_name_writes_nothing(checkout: Path, name: str) -> None:
    before = {path for path in checkout.rglob("*") if path.is_file()}
    with pytest.raises(NotWritten):
        write(name, checkout)
    assert {path for path in checkout.rglob("*") if path.is_file()} == before


def test_it_wants_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="no checkout"):
        write("acme", tmp_path)
