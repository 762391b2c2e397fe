"""The API from a terminal as people and scripts use it, against a service that runs beside it."""

import json
import signal
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from app.terminal import plain
from tests.processes import GATEHOUSE, within
from tests.terminal import Terminal, open_terminal

ORDER = ("--provider", "generic", "--amount", "49.90", "--currency", "EUR")
DOLLARS = ("--provider", "bluetape", "--amount", "10.00", "--currency", "USD", "--email", "a@example.org")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with open_terminal(tmp_path_factory.mktemp("terminal")) as terminal:
        yield terminal


class Odd(BaseHTTPRequestHandler):
    """Who is no Gatehouse: hangs up on every POST, and answers a page to everything else."""

    def do_GET(self) -> None:
        page = b"<html>Sign in</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def stranger() -> Iterator[dict[str, str]]:
    with HTTPServer(("127.0.0.1", 0), Odd) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield {"GATEHOUSE_URL": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()
        thread.join()


def test_an_invoice_goes_its_road_from_a_terminal(terminal: Terminal) -> None:
    created = terminal.json("invoices", "create", *ORDER, "--order-id", "order-17", "--metadata", "cart=c-9")
    id = str(created["id"])
    assert (created["status"], created["metadata"]) == ("pending", {"cart": "c-9"})
    assert terminal.run("invoices", "checkout", id).stdout.startswith("http")
    terminal.control("generic/settle", reference=created["provider_invoice_id"], outcome="paid", notify="none")
    assert terminal.json("invoices", "get", id, "--refresh")["status"] == "completed"
    shown = terminal.run("invoices", "list", "--order-id", "order-17").stdout
    assert shown.splitlines()[1].split()[:5] == [id, "generic", "completed", "49.90", "EUR"]


def test_json_is_what_the_api_answers(terminal: Terminal) -> None:
    id = terminal.json("invoices", "create", *ORDER, "--description", "Bücher")["id"]
    assert terminal.json("invoices", "get", str(id)) == terminal.asked(f"/v1/invoices/{id}?refresh=false")
    assert terminal.json("providers").keys() == terminal.asked("/v1/providers").keys()
    assert "Bücher" in terminal.run("invoices", "get", str(id), "--json").stdout


def test_a_list_is_read_to_its_end(terminal: Terminal) -> None:
    ids = {terminal.json("invoices", "create", *ORDER, "--order-id", "many")["id"] for _ in range(3)}
    some = terminal.run("invoices", "list", "--order-id", "many", "--limit", "2")
    assert len(some.stdout.splitlines()) == 3
    rest = terminal.run(
        "invoices", "list", "--order-id", "many", "--cursor", some.stderr.split("--cursor ")[1].split(",")[0]
    )
    assert len(rest.stdout.splitlines()) == 2
    whole = terminal.json("invoices", "list", "--order-id", "many", "--all")
    assert {one["id"] for one in whole["data"]} == ids  # type: ignore[attr-defined]
    assert (whole["next_cursor"], whole["has_more"]) == (None, False)
    assert len(terminal.run("invoices", "list", "--order-id", "many", "--all").stdout.splitlines()) == 4


def test_a_table_is_cut_nowhere_and_what_is_in_it_is_no_markup(terminal: Terminal) -> None:
    odd = "[red]" + "x" * 100
    terminal.json("invoices", "create", *ORDER, "--order-id", odd)
    assert odd in terminal.run("invoices", "list", environment={"COLUMNS": "40"}).stdout


def test_what_others_wrote_moves_no_cursor() -> None:
    assert plain("a\x1b[2J\r\nb\u202e") == "a [2J  b "


def test_there_are_colours_where_somebody_sees_them_and_wants_them(terminal: Terminal) -> None:
    seen = {"FORCE_COLOR": "1", "TERM": "xterm"}
    assert "\x1b[32mup" in terminal.run("providers", environment=seen).stdout
    assert "\x1b[32m" not in terminal.run("providers", environment={**seen, "NO_COLOR": "1"}).stdout
    assert "\x1b" not in terminal.run("providers").stdout


def test_what_a_provider_sells_is_named_by_variant(terminal: Terminal) -> None:
    body = ("--provider", "sellapp", "--email", "a@example.org", "--variant", "1001:2")
    assert terminal.json("invoices", "create", *body)["amount"] == "39.98"


def test_what_only_one_provider_knows_is_given_by_name(terminal: Terminal) -> None:
    done = terminal.run("invoices", "create", *ORDER, "--option", "nonsense=1", code=1)
    assert "/provider_options/nonsense" in done.stderr


def test_a_request_may_come_from_a_file(terminal: Terminal) -> None:
    order = terminal.folder / "order.json"
    order.write_text('{"provider": "generic", "amount": "1.00", "currency": "EUR"}')
    created = terminal.json("invoices", "create", "--from-json", str(order), "--amount", "2.00")
    assert created["amount"] == "2.00"
    piped = terminal.run("invoices", "create", "--from-json", "-", "--json", given=order.read_text())
    assert json.loads(piped.stdout)["amount"] == "1.00"


def test_the_same_key_is_one_invoice(terminal: Terminal) -> None:
    once = ("invoices", "create", *ORDER, "--idempotency-key", "order-18")
    assert terminal.json(*once)["id"] == terminal.json(*once)["id"]


def test_a_key_is_made_and_shown(terminal: Terminal) -> None:
    first = terminal.run("invoices", "create", *ORDER, "--json")
    key = first.stderr.split("Idempotency-Key: ")[1].split()[0]
    again = terminal.json("invoices", "create", *ORDER, "--idempotency-key", key)
    assert again["id"] == json.loads(first.stdout)["id"]


def test_an_invoice_is_waited_for(terminal: Terminal) -> None:
    id = str(terminal.json("invoices", "create", *ORDER)["id"])
    assert terminal.json("invoices", "get", id, "--wait", "1")["id"] == id
    shown = terminal.run("invoices", "get", id, "--wait", "0").stdout.splitlines()
    assert shown[1].split() == ["id", id]
    assert [line for line in shown if line != line.rstrip()] == []


def test_the_providers_are_shown(terminal: Terminal) -> None:
    shown = terminal.run("providers").stdout
    names = {sheet["name"] for sheet in terminal.asked("/v1/providers")["data"]}  # type: ignore[attr-defined]
    assert {row.split()[0] for row in shown.splitlines()[1:]} == names
    assert "create checkout get" in shown


def test_a_refusal_is_told_with_everything_that_is_wrong(terminal: Terminal) -> None:
    done = terminal.run("invoices", "create", "--provider", "generic", "--amount", "1.234", "--currency", "EUR", code=1)
    assert "invalid_request" in done.stderr
    assert "/amount" in done.stderr
    assert "request_id" in done.stderr
    assert done.stdout == ""


def test_an_id_is_no_path(terminal: Terminal) -> None:
    assert "not_found" in terminal.run("invoices", "get", "../providers", code=1).stderr


def test_a_doubtful_create_says_how_to_try_again(terminal: Terminal) -> None:
    terminal.control("sellapp/faults", operation="create", fault="reset_after_accept")
    body = ("--provider", "sellapp", "--email", "doubt@example.org", "--variant", "1002")
    done = terminal.run("invoices", "create", *body, code=4)
    key = done.stderr.partition("--idempotency-key ")[2].split()[0]
    id = done.stderr.partition("invoice_id: ")[2].split()[0]
    again = terminal.json("invoices", "create", *body, "--idempotency-key", key)
    assert (again["id"], again["status"]) == (id, "pending")


def test_who_cannot_be_reached_is_said_so(terminal: Terminal) -> None:
    done = terminal.run("providers", code=3, environment={"GATEHOUSE_URL": "http://127.0.0.1:9"})
    assert "does not answer" in done.stderr


def test_a_create_that_did_not_leave_is_not_doubtful(terminal: Terminal) -> None:
    done = terminal.run("invoices", "create", *ORDER, code=3, environment={"GATEHOUSE_URL": "http://127.0.0.1:9"})
    assert "--idempotency-key" in done.stderr


def test_a_create_whose_answer_is_lost_is_doubtful(terminal: Terminal, stranger: dict[str, str]) -> None:
    done = terminal.run("invoices", "create", *ORDER, code=4, environment=stranger)
    assert "--idempotency-key" in done.stderr


def test_who_is_no_gatehouse_is_said_so(terminal: Terminal, stranger: dict[str, str]) -> None:
    done = terminal.run("providers", code=3, environment=stranger)
    assert "not as a Gatehouse does" in done.stderr


def test_a_wrong_key_is_refused_and_not_repeated(terminal: Terminal) -> None:
    done = terminal.run("providers", code=1, environment={"GATEHOUSE_KEY": "a-key-that-is-wrong"})
    assert "unauthenticated" in done.stderr
    assert "a-key-that-is-wrong" not in done.output


def test_a_key_is_needed_for_another_machine(terminal: Terminal) -> None:
    said = terminal.process("providers", code=78, environment={"GATEHOUSE_URL": "https://pay.example.org"})
    assert "GATEHOUSE_KEY" in said


@pytest.mark.parametrize(
    "words",
    [
        ("invoices", "create", "--metadata", "nonsense"),
        ("invoices", "create", "--variant", "1001:many"),
        ("invoices", "create", "--from-json", "nowhere.json"),
        ("invoices", "get"),
        ("invoices", "get", "x", "--wait", "61"),
        ("events", "tail", "--cursor", "x", "--from-start"),
        ("reconcile",),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_told(terminal: Terminal, words: tuple[str, ...]) -> None:
    assert "Usage" in terminal.run(*words, code=2).stderr


def test_the_exit_codes_are_told(terminal: Terminal) -> None:
    for words in (("invoices", "create"), ("invoices",), ("events", "tail"), ("providers",), ("reconcile",)):
        assert "4 it may be done" in " ".join(terminal.run(*words, "--help").stdout.split())


def test_every_unfinished_invoice_is_asked_about(terminal: Terminal) -> None:
    created = terminal.json("invoices", "create", *DOLLARS, "--description", "Boards")
    terminal.control("bluetape/settle", reference=created["id"], outcome="paid", notify="none")
    summary = terminal.json("reconcile", "--all")
    assert int(str(summary["changed"])) >= 1
    assert summary["failed"] == 0
    assert terminal.json("invoices", "get", str(created["id"]))["status"] == "completed"


def test_who_could_not_be_asked_is_counted(terminal: Terminal) -> None:
    created = terminal.json("invoices", "create", *DOLLARS, "--description", "Boards")
    terminal.control("bluetape/faults", operation="get", fault="status:401", times=1)
    done = terminal.run("reconcile", "--all", code=1)
    assert done.stdout.splitlines()[1].split()[2] == "1"
    assert str(created["id"]) in done.stderr
    assert "provider_auth_failed" in done.stderr


def test_events_are_followed_until_interrupted(terminal: Terminal) -> None:
    place = str(terminal.asked("/v1/events?limit=100")["next_cursor"])
    tail = [GATEHOUSE, "events", "tail", "--type", "invoice.created", "--json", "--cursor", place]
    environment = within({"GATEHOUSE_URL": terminal.beside.url})
    following = subprocess.Popen(
        tail, cwd=terminal.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        ids = [terminal.json("invoices", "create", *ORDER, "--order-id", "followed")["id"]]
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        assert (first["type"], first["invoice_id"], first["data"]["order_id"]) == ("invoice.created", *ids, "followed")
        ids.append(terminal.json("invoices", "create", *ORDER)["id"])
        assert json.loads(following.stdout.readline())["invoice_id"] == ids[1]
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=20)
        assert following.returncode == 0, said
    finally:
        following.kill()
        following.communicate()
    after = said.split("--cursor ")[1].split()[0]
    missed = terminal.asked(f"/v1/events?type=invoice.created&cursor={after}")["data"]
    assert {event["invoice_id"] for event in missed} <= {ids[1]}  # type: ignore[attr-defined]
