"""What the image and the compose file promise; no engine is needed to see that they keep it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|DATABASE_URL|REDIS_URL")
SANDBOX = "sandbox"

Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The Dockerfile's stages, each a list of (instruction, rest)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def all_of(word: str, instructions: list[Instruction]) -> list[str]:
    return [rest for found, rest in instructions if found == word]


def one(word: str, instructions: list[Instruction]) -> str:
    [rest] = all_of(word, instructions)
    return rest


def environment(instructions: list[Instruction]) -> dict[str, str]:
    words = [word for rest in all_of("ENV", instructions) for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
STAGES = stages()
SHIPPED = STAGES[-1]


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
    ],
    ids=lambda command: command[0],
)
def test_the_linters_find_nothing(command: list[str]) -> None:
    found = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_image_is_no_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", one("USER", SHIPPED))
    words = [word for word, _ in SHIPPED]
    assert not {"COPY", "RUN", "ADD"} & set(words[words.index("USER") :])


def test_the_image_says_how_it_is() -> None:
    options, _, command = one("HEALTHCHECK", SHIPPED).partition("CMD")
    assert "--timeout" in options
    program, _, script = json.loads(command)
    assert program == "python"
    assert "/livez" in script
    compile(script, "healthcheck", "exec")


def test_the_image_serves_and_never_play_money() -> None:
    assert json.loads(one("ENTRYPOINT", SHIPPED)) == ["gatehouse"]
    assert json.loads(one("CMD", SHIPPED)) == ["serve", "--host", "0.0.0.0"]
    assert environment(SHIPPED)["GATEHOUSE_SANDBOX"] == "off"


def test_the_image_writes_nowhere_but_in_its_volume() -> None:
    assert environment(SHIPPED)["PYTHONDONTWRITEBYTECODE"] == "1"
    assert one("VOLUME", SHIPPED) == one("WORKDIR", SHIPPED) == "/data"
    assert Settings.model_fields["database_url"].default == "sqlite:///./gatehouse.db"


def test_the_image_leaves_the_database_to_the_secret_files() -> None:
    assert "GATEHOUSE_DATABASE_URL" not in environment(SHIPPED)


def test_bases_have_a_version() -> None:
    assert [base for stage in STAGES if not re.search(r":\d", base := one("FROM", stage))] == []


def test_everything_installed_is_hashed_or_is_ours() -> None:
    runs = [run for stage in STAGES for run in all_of("RUN", stage)]
    installs = [part for run in runs for part in run.split("&&") if re.search(r"pip (install|wheel)", part)]
    assert installs
    assert [part for part in installs if "--require-hashes" not in part and "--no-deps" not in part] == []


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copies = [shlex.split(copy) for stage in STAGES for copy in all_of("COPY", stage)]
    sources = {source for copy in copies if not copy[0].startswith("--from=") for source in copy[:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == let_in
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_stages_copied_from_are_named() -> None:
    names = {one("FROM", stage).partition(" AS ")[2] for stage in STAGES}
    copies = [copy for stage in STAGES for copy in all_of("COPY", stage)]
    assert {found for copy in copies for found in re.findall(r"--from=(\S+)", copy)} <= names - {""}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_reached_from_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_secrets_are_files(name: str) -> None:
    service = SERVICES[name]
    told = {key: value for key, value in service.get("environment", {}).items() if SECRET.search(key)}
    assert all(value is None or value.startswith("/run/secrets/") for value in told.values())
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_secret_files_are_neither_committed_nor_shipped() -> None:
    assert COMPOSE["secrets"] == {secret: {"file": f"./secrets/{secret}"} for secret in COMPOSE["secrets"]}
    assert {"secrets/", ".env"} <= set((ROOT / ".gitignore").read_text().splitlines())
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml"])
def test_no_secret_is_written(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text)
    assert not re.search(r"whsec_|sandbox-[a-z]+-", text)


def test_the_image_holds_no_secret() -> None:
    told = [name for stage in STAGES for name in [*environment(stage), *all_of("ARG", stage)]]
    assert [name for name in told if SECRET.search(name)] == []


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml"])
def test_every_setting_named_is_one(name: str) -> None:
    """A misspelt one would stop the start."""
    named = {found.lower() for found in re.findall(r"\bGATEHOUSE_(\w+)", (ROOT / name).read_text(), re.IGNORECASE)}
    assert {found for found in named if not found.startswith("providers__")} <= Settings.model_fields.keys()


def test_the_work_is_done_by_the_worker() -> None:
    assert SERVICES["api"]["environment"]["GATEHOUSE_WORKER"] == "off"
    assert SERVICES["worker"]["command"] == ["worker"]


def test_the_database_is_kept_and_waited_for() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["image"].startswith("postgres:17")
    assert "pg_isready" in postgres["healthcheck"]["test"]
    assert [volume.partition(":")[0] for volume in postgres["volumes"]] == list(COMPOSE["volumes"])
    assert SERVICES["api"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_play_money_has_its_own_profile() -> None:
    played = {
        name: service["profiles"]
        for name, service in SERVICES.items()
        if "GATEHOUSE_SANDBOX" in service.get("environment", {})
    }
    assert played == {SANDBOX: [SANDBOX]}
    assert SERVICES[SANDBOX]["environment"]["GATEHOUSE_SANDBOX"] == "on"
    assert not SERVICES[SANDBOX].get("secrets")
