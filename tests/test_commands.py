"""The command line as people and scripts use it, against a service that runs beside it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import app as command
from app.scaffold import NotWritten, write
from tests.crash import GATEHOUSE
from tests.test_readme import free_ports, wait_for

ROOT = Path(__file__).parent.parent
ORDER = ("--provider", "generic", "--amount", "49.90", "--currency", "EUR")
CHECKED = ("tests/test_cases.py", "tests/test_registry.py", "tests/test_house.py")


@dataclass
class Terminal:
    folder: Path
    service: int
    sandbox: int

    def run(self, *words: str, code: int = 0, environment: Mapping[str, str] = {}) -> Result:
        """In this process, since starting one takes longer than what it does."""
        told = {"COLUMNS": "200", "GATEHOUSE_URL": f"http://127.0.0.1:{self.service}", **environment}
        done = CliRunner().invoke(command, words, env=told)
        assert done.exit_code == code, (done.exit_code, done.output, done.exception)
        return done

    def process(self, *words: str, code: int, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(GATEHOUSE), *words],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run(*words, "--json").stdout)
        return found

    def control(self, path: str, **body: object) -> None:
        httpx.post(f"http://127.0.0.1:{self.sandbox}/_control/{path}", json=body).raise_for_status()


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder: Path = tmp_path_factory.mktemp("terminal")
    service, sandbox = free_ports()
    serve = [str(GATEHOUSE), "serve", "--port", str(service), "--sandbox-port", str(sandbox)]
    log = (folder / "log").open("wb")
    quick = {"PATH": os.environ["PATH"], "GATEHOUSE_DRAIN": "0,1", "GATEHOUSE_SETTLE": "1"}
    with log, subprocess.Popen(serve, cwd=folder, env=quick, stdout=log, stderr=log) as process:
        wait_for(f"http://127.0.0.1:{service}/readyz")
        yield Terminal(folder, service, sandbox)
        process.terminate()


def test_an_invoice_goes_its_road_from_a_terminal(terminal: Terminal) -> None:
    created = terminal.json("invoices", "create", *ORDER, "--order-id", "order-17", "--metadata", "cart=c-9")
    id = str(created["id"])
    assert (created["status"], created["metadata"]) == ("pending", {"cart": "c-9"})
    assert terminal.run("invoices", "checkout", id).stdout.startswith("http")
    terminal.control("generic/settle", reference=created["provider_invoice_id"], outcome="paid", notify="none")
    assert terminal.json("invoices", "get", id, "--refresh")["status"] == "completed"
    shown = terminal.run("invoices", "list", "--order-id", "order-17").stdout
    assert id in shown
    assert "completed" in shown
    assert len(terminal.json("invoices", "list", "--all", "--status", "completed")["data"]) >= 1  # type: ignore[arg-type]


def test_what_a_provider_sells_is_named_by_variant(terminal: Terminal) -> None:
    body = ("--provider", "sellapp", "--email", "a@example.org", "--variant", "1001:2")
    assert terminal.json("invoices", "create", *body)["amount"] == "39.98"


def test_a_request_may_come_from_a_file(terminal: Terminal) -> None:
    order = terminal.folder / "order.json"
    order.write_text('{"provider": "generic", "amount": "1.00", "currency": "EUR"}')
    created = terminal.json("invoices", "create", "--from-json", str(order), "--amount", "2.00")
    assert created["amount"] == "2.00"


def test_the_providers_are_shown(terminal: Terminal) -> None:
    shown = terminal.run("providers").stdout
    assert all(name in shown for name in ("sellapp", "bluetape", "turinpay", "generic"))
    assert "up" in shown


def test_a_refusal_is_told_with_everything_that_is_wrong(terminal: Terminal) -> None:
    done = terminal.run("invoices", "create", "--provider", "generic", "--amount", "1.234", "--currency", "EUR", code=1)
    assert "/amount" in done.stderr
    assert "request_id" in done.stderr
    assert done.stdout == ""


def test_a_doubtful_create_says_how_to_try_again(terminal: Terminal) -> None:
    terminal.control("sellapp/faults", operation="create", fault="reset_after_accept")
    body = ("--provider", "sellapp", "--email", "doubt@example.org", "--variant", "1002")
    done = terminal.run("invoices", "create", *body, code=4)
    key = done.stderr.partition("--idempotency-key ")[2].split()[0]
    assert "invoice_id: inv_" in done.stderr
    again = terminal.json("invoices", "create", *body, "--idempotency-key", key)
    assert again["status"] == "pending"


def test_who_cannot_be_reached_is_said_so(terminal: Terminal) -> None:
    done = terminal.run("providers", code=3, environment={"GATEHOUSE_URL": "http://127.0.0.1:9"})
    assert "does not answer" in done.stderr


def test_a_wrong_key_is_refused_and_not_repeated(terminal: Terminal) -> None:
    done = terminal.run("providers", code=1, environment={"GATEHOUSE_KEY": "a-key-that-is-wrong"})
    assert "unauthenticated" in done.stderr
    assert "a-key-that-is-wrong" not in done.stderr


def test_a_key_is_needed_for_another_machine(terminal: Terminal) -> None:
    done = terminal.process("providers", code=78, environment={"GATEHOUSE_URL": "https://pay.example.org"})
    assert "GATEHOUSE_KEY" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("invoices", "create", "--metadata", "nonsense"),
        ("invoices", "create", "--variant", "1001:many"),
        ("invoices", "create", "--from-json", "nowhere.json"),
        ("invoices", "get"),
        ("invoices", "get", "x", "--wait", "61"),
        ("reconcile",),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_told(terminal: Terminal, words: tuple[str, ...]) -> None:
    assert "Usage" in terminal.run(*words, code=2).stderr


def test_every_unfinished_invoice_is_asked_about(terminal: Terminal) -> None:
    untold = ("--provider", "bluetape", "--amount", "10.00", "--currency", "USD", "--email", "a@example.org")
    created = terminal.json("invoices", "create", *untold, "--description", "Boards")
    terminal.control("bluetape/settle", reference=created["id"], outcome="paid", notify="none")
    summary = terminal.json("reconcile", "--all")
    assert int(str(summary["changed"])) >= 1
    assert summary["failed"] == 0
    assert terminal.json("invoices", "get", str(created["id"]))["status"] == "completed"


def test_events_are_followed_until_interrupted(terminal: Terminal) -> None:
    environment = {"PATH": os.environ["PATH"], "GATEHOUSE_URL": f"http://127.0.0.1:{terminal.service}"}
    tail = [str(GATEHOUSE), "events", "tail", "--type", "invoice.created"]
    with subprocess.Popen(
        tail, cwd=terminal.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        time.sleep(2)
        created = terminal.json("invoices", "create", *ORDER)
        assert following.stdout is not None
        assert str(created["id"]) in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=20)
        assert following.returncode == 0
    assert "--cursor" in said


def test_the_doctor_finds_nothing_wrong_where_nothing_is(terminal: Terminal) -> None:
    """A production service on the simulators: whose credentials are asked about at them."""
    healthy = production(terminal)
    done = terminal.run("doctor", environment=healthy)
    assert "xx" not in done.stdout
    assert "provider turinpay: accepts our credentials" in done.stdout
    told = json.loads(terminal.run("doctor", "--json", environment=healthy).stdout)["data"]
    assert {finding["state"] for finding in told} <= {"good", "doubtful"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": "another"}, "does not accept our credentials"),
        ({"GATEHOUSE_WEBHOK_URL": "https://shop.example"}, "did you mean GATEHOUSE_WEBHOOK_URL?"),
        ({"GATEHOUSE_SECRET_KEY": ""}, "GATEHOUSE_SECRET_KEY"),
        ({"GATEHOUSE_DATABASE_URL": "sqlite:////nowhere/at/all.db"}, "store"),
        ({"GATEHOUSE_ALLOW_PRIVATE_NETWORKS": "off"}, "BASE_URL must not lead into a private network"),
    ],
)
def test_the_doctor_says_what_is_wrong(terminal: Terminal, wrong: dict[str, str], says: str) -> None:
    done = terminal.run("doctor", code=1, environment={**production(terminal), **wrong})
    assert says in done.stdout
    assert "another" not in done.stdout


def production(terminal: Terminal) -> dict[str, str]:
    return {
        "GATEHOUSE_PROVIDERS__TURINPAY__BASE_URL": f"http://127.0.0.1:{terminal.sandbox}/turinpay",
        "GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": "sandbox-turinpay-key",
        "GATEHOUSE_API_KEYS": "shop:write:0123456789abcdef",
        "GATEHOUSE_SECRET_KEY": "k" * 32,
        "GATEHOUSE_ALLOW_PRIVATE_NETWORKS": "on",
        "GATEHOUSE_DATABASE_URL": f"sqlite:///{terminal.folder}/doctor.db",
    }


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


def scaffolded(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-c", "from app.cli import main; main()", "new-provider", name]
    return subprocess.run(
        run, cwd=checkout, env=here(checkout), capture_output=True, text=True, timeout=60, check=False
    )


def here(checkout: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere"}


@pytest.mark.timeout(120)
def test_a_new_provider_works_as_it_is_written_and_needs_no_other_edit(checkout: Path) -> None:
    written = scaffolded(checkout, "acme")
    assert "app/providers/acme.py" in written.stdout.split()
    test = [sys.executable, "-m", "pytest", "-q", "-k", "acme or stranger", "-p", "no:cacheprovider", *CHECKED]
    done = subprocess.run(
        test, cwd=checkout, env=here(checkout), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert int(done.stdout.rpartition(" passed")[0].split()[-1]) > 20
    again = scaffolded(checkout, "acme")
    assert again.returncode == 2
    assert "already" in again.stderr


@pytest.mark.parametrize("name", ["Acme", "a", "class", "../evil", "a-b", "1st", "", "sellapp"])
def test_a_bad_name_writes_nothing(checkout: Path, name: str) -> None:
    with pytest.raises(NotWritten):
        write(name, checkout)
