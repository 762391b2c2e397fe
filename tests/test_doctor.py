"""What is wrong with a deployment is found and named, with what to do, and never with a secret."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from app.doctor.accounts import Dated
from app.providers import kinds
from app.simulator import credentials
from tests.processes import accounts_at
from tests.terminal import Terminal, open_terminal

STRONG = {
    "GATEHOUSE_SECRET_KEY": "q9X2mL7vR4tB8nZ1cK6yH3wJ5dF0gS_a",
    "GATEHOUSE_API_KEYS": "shop:write:q9X2mL7vR4tB8nZ1",
}
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with open_terminal(tmp_path_factory.mktemp("doctor")) as terminal:
        yield terminal


def production(terminal: Terminal, *, store: str = "doctor.db") -> dict[str, str]:
    """A deployment without fault, whose accounts are at the simulators, one of each kind."""
    return {
        **accounts_at(terminal.beside.sandbox, *kinds()),
        **STRONG,
        "GATEHOUSE_ALLOW_PRIVATE_NETWORKS": "on",
        "GATEHOUSE_PUBLIC_URL": "https://pay.example.org",
        "GATEHOUSE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "GATEHOUSE_DATABASE_URL": f"sqlite:///{terminal.folder / store}",
    }


def findings(terminal: Terminal, code: int, changed: Mapping[str, str | None]) -> list[dict[str, str]]:
    given = {name: text for name, text in {**production(terminal), **changed}.items() if text is not None}
    done = terminal.run("doctor", "--json", code=code, environment=given)
    told = json.loads(done.stdout)
    assert told["healthy"] == (code == 0)
    assert not [secret for secret in SECRETS if secret in done.output]
    found: list[dict[str, str]] = told["data"]
    return found


SECRETS = (*STRONG.values(), WEBHOOK_SECRET, "another-key-than-theirs")


def test_nothing_is_wrong_where_nothing_is(terminal: Terminal) -> None:
    done = terminal.run("doctor", environment=production(terminal))
    assert "✗" not in done.stdout
    assert "✓ settings: complete" in done.stdout
    for kind in kinds():
        assert f"✓ provider {kind}: credentials accepted" in done.stdout


def test_nothing_is_made_by_looking(terminal: Terminal) -> None:
    before = sorted(terminal.folder.iterdir())
    assert state(findings(terminal, 0, {}), "store") == "good"
    assert sorted(terminal.folder.iterdir()) == before


@pytest.mark.parametrize("kind", kinds())
def test_refused_credentials_are_named(terminal: Terminal, kind: str) -> None:
    fields = [name for name in credentials("http://x")[kind] if name.endswith("key")]
    wrong = {f"GATEHOUSE_PROVIDERS__{kind.upper()}__{field.upper()}": "another-key-than-theirs" for field in fields}
    found = findings(terminal, 1, wrong)
    (only,) = [finding for finding in found if finding["state"] == "wrong"]
    assert only["about"] == f"provider {kind}"
    assert "credentials refused" in only["says"]
    assert next(iter(wrong)) in only["says"]


def test_who_cannot_be_asked_is_doubtful(terminal: Terminal) -> None:
    found = findings(terminal, 0, {"GATEHOUSE_PROVIDERS__TURINPAY__BASE_URL": "http://127.0.0.1:9"})
    assert state(found, "provider turinpay") == "doubtful"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"GATEHOUSE_WEBHOK_URL": "https://shop.example"}, "did you mean GATEHOUSE_WEBHOOK_URL?"),
        ({"GATEHOUSE_PROVIDER__TURINPAY__API_KEY": "x"}, "did you mean GATEHOUSE_PROVIDERS__TURINPAY__API_KEY?"),
        ({"GATEHOUSE_PROVIDERS__TURINPAY__API_KYE": "x"}, "did you mean GATEHOUSE_PROVIDERS__TURINPAY__API_KEY?"),
        ({"GATEHOUSE_QQQ": "x"}, "GATEHOUSE_QQQ is not a setting; take it away"),
        ({"GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": None}, "GATEHOUSE_PROVIDERS__TURINPAY__API_KEY: is missing"),
        ({"GATEHOUSE_SECRET_KEY": None}, "GATEHOUSE_SECRET_KEY is missing"),
        ({"GATEHOUSE_API_KEYS": None}, "GATEHOUSE_API_KEYS is missing"),
        ({"GATEHOUSE_SANDBOX": "on"}, "GATEHOUSE_SANDBOX is on"),
        ({"GATEHOUSE_SETTLE": "long"}, "GATEHOUSE_SETTLE"),
        ({"GATEHOUSE_ROUTES": '[{"providers": ["nobody"]}]'}, "GATEHOUSE_ROUTES names a provider"),
        ({"GATEHOUSE_ALLOW_PRIVATE_NETWORKS": "off"}, "BASE_URL must not lead into a private network"),
        (
            {"GATEHOUSE_WEBHOOK_URL": "https://shop.example", "GATEHOUSE_WEBHOOK_SECRET": None},
            "GATEHOUSE_WEBHOOK_SECRET is missing",
        ),
    ],
)
def test_a_wrong_setting_is_named(terminal: Terminal, changed: dict[str, str | None], says: str) -> None:
    found = findings(terminal, 1, changed)
    assert any(says in finding["says"] for finding in found if finding["state"] == "wrong"), found
    assert "complete" not in {finding["says"] for finding in found}


def test_everything_is_said_at_once(terminal: Terminal) -> None:
    several = {"GATEHOUSE_QQQ": "x", "GATEHOUSE_SECRET_KEY": None, "GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": None}
    wrong = [finding["says"] for finding in findings(terminal, 1, several) if finding["state"] == "wrong"]
    assert len(wrong) == len(several)


def test_what_everybody_knows_guards_no_money(terminal: Terminal) -> None:
    known = {
        "GATEHOUSE_API_KEYS": "shop:write:sandbox-admin-key",
        "GATEHOUSE_WEBHOOK_SECRET": "whsec_c2FuZGJveC13ZWJob29rLXNlY3JldC0wMDAx",
    }
    says = [finding["says"] for finding in findings(terminal, 1, known) if finding["state"] == "wrong"]
    assert [text.split()[0] for text in says] == ["GATEHOUSE_API_KEYS", "GATEHOUSE_WEBHOOK_SECRET"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"GATEHOUSE_PUBLIC_URL": None}, "GATEHOUSE_PUBLIC_URL is this machine"),
        ({"GATEHOUSE_PUBLIC_URL": "http://pay.example.org"}, "GATEHOUSE_PUBLIC_URL is not https"),
        ({"GATEHOUSE_WEBHOOK_SECRET": None}, "GATEHOUSE_WEBHOOK_SECRET is not set"),
        ({"GATEHOUSE_WORKER": "off"}, "GATEHOUSE_WORKER is off"),
        ({"GATEHOUSE_SECRET_KEY": "k" * 32}, "GATEHOUSE_SECRET_KEY looks typed"),
        ({"GATEHOUSE_API_KEYS": "shop:write:my-password-1234"}, "GATEHOUSE_API_KEYS looks typed"),
    ],
)
def test_what_may_be_meant_so_is_doubted_only(terminal: Terminal, changed: dict[str, str | None], says: str) -> None:
    new = [finding for finding in findings(terminal, 0, changed) if finding not in findings(terminal, 0, {})]
    assert [finding["state"] for finding in new] == ["doubtful"]
    assert says in new[0]["says"]


def test_a_store_that_cannot_be_used_is_wrong(terminal: Terminal, tmp_path: Path) -> None:
    for url in (
        "sqlite:////nowhere/at/all.db",
        "sqlite://",
        "mysql://x/y",
        f"sqlite:///{newer(tmp_path / 'newer.db')}",
        f"postgresql:///x?host={tmp_path}",
    ):
        assert state(findings(terminal, 1, {"GATEHOUSE_DATABASE_URL": url}), "store") == "wrong", url


def newer(path: Path) -> Path:
    """A store that a later version has been at."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('from the future')")
    connection.close()
    return path


def test_a_store_that_is_behind_is_wrong_where_nobody_migrates_it(terminal: Terminal, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    behind = {"GATEHOUSE_DATABASE_URL": f"sqlite:///{tmp_path}/empty.db"}
    assert state(findings(terminal, 0, behind), "store") == "good"
    (told,) = [
        finding
        for finding in findings(terminal, 1, {**behind, "GATEHOUSE_AUTO_MIGRATE": "off"})
        if finding["about"] == "store"
    ]
    assert "gatehouse migrate" in told["says"]


def test_a_store_that_is_served_is_good(terminal: Terminal) -> None:
    """The sandbox beside it holds its file."""
    served = {"GATEHOUSE_DATABASE_URL": f"sqlite:///{terminal.folder}/gatehouse.db"}
    assert state(findings(terminal, 0, served), "store") == "good"


def test_without_providers_there_is_only_the_sandbox(terminal: Terminal) -> None:
    assert "! mode: no provider is configured" in terminal.run("doctor").stdout
    assert (
        "no provider is configured" in terminal.run("doctor", code=1, environment={"GATEHOUSE_SANDBOX": "off"}).stdout
    )


@pytest.mark.anyio
async def test_a_clock_that_goes_wrong_is_heard() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Date": "Wed, 01 Jan 2020 00:00:00 GMT"})

    dated = Dated(httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=dated) as http:
        await http.get("https://api.example.org/")
    assert dated.ahead["api.example.org"].days > 365


def state(found: list[dict[str, str]], about: str) -> str:
    (one,) = [finding for finding in found if finding["about"] == about]
    return one["state"]
