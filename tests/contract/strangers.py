"""A stranger's tool reads the OpenAPI document and asks a running sandbox all that it allows, and much that it forbids.

`python -m tests.contract.strangers [cases]` goes on until it has asked that often; the suite asks less.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.processes import free_port

BIN = Path(sys.executable).parent
CONFIG = Path(__file__).parent.parent / "schemathesis.toml"
GENERATED = re.compile(r"(\d+) generated")
PAUSES = ("pauseProvider", "resumeProvider")
EXAMPLES = 300

# Deliveries go to a port that nobody listens on, so that no made-up address is ever knocked at; a create that names no
# provider goes to whichever takes it.
ENVIRONMENT = {
    "GATEHOUSE_RATE_LIMIT": "off",
    "GATEHOUSE_MAX_AGE": "0.2",
    "GATEHOUSE_DRAIN": "0,5",
    "GATEHOUSE_CALLBACK_PORTS": "9",
    "GATEHOUSE_WEBHOOK_URL": "http://127.0.0.1:9/hooks",
    "GATEHOUSE_ROUTES": json.dumps(
        [
            {"currencies": ["USD"], "providers": ["turinpay", "bluetape", "generic"]},
            {"currencies": ["EUR"], "providers": ["generic", "turinpay"]},
            {"providers": ["generic", "sellapp"]},
        ]
    ),
}


@dataclass
class Tally:
    """What was asked, what the tool found, and what the service's own log says of it."""

    cases: int = 0
    found: list[str] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def read(self, log: Path) -> None:
        """The simulators do nothing wrong unless they are told to, so nothing may be answered 5xx."""
        for line in log.read_text().split("\n"):
            told = json.loads(line) if line.startswith("{") else {}
            if told.get("level") == "error" or line.startswith("Traceback"):
                self.failures.append(line)
            if told.get("event") == "request":
                self.answers[f"{told['method']} {told.get('route')}", told["status"]] += 1
                if told["status"] >= 500:
                    self.failures.append(line)


@dataclass(frozen=True)
class Sandbox:
    url: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    def asked(self, tally: Tally, *options: str) -> None:
        """Run the tool with these options; what it says is kept where it found something."""
        command = [f"{BIN}/schemathesis", f"--config-file={CONFIG}", "run", f"{self.url}/openapi.json", *options]
        run = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        generated = GENERATED.search(run.stdout)
        tally.cases += int(generated[1]) if generated else 0
        if run.returncode or not generated:
            tally.found.append(run.stdout + run.stderr)


@contextmanager
def open_sandbox(folder: Path) -> Iterator[Sandbox]:
    """`gatehouse serve` as anybody would start it, until the block is left."""
    port, sandbox_port = free_port(), free_port()
    sandbox = Sandbox(f"http://127.0.0.1:{port}", folder)
    command = [f"{BIN}/gatehouse", "serve", "--port", str(port), "--sandbox-port", str(sandbox_port)]
    environment = {"PATH": os.environ["PATH"], **ENVIRONMENT}
    with sandbox.log.open("w") as log:
        service = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            wait_for(sandbox)
            yield sandbox
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=20)


def wait_for(sandbox: Sandbox) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            httpx.get(f"{sandbox.url}/readyz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"the service does not start: {sandbox.log.read_text()[-2000:]}")


def without_pauses() -> list[str]:
    return [word for id in PAUSES for word in ("--exclude-operation-id", id)]


def ask(sandbox: Sandbox, cases: int, examples: int, seed: int) -> Tally:
    """Everything but the pauses, which make other calls fail; those come last, by themselves."""
    tally = Tally()
    while tally.cases < cases and not tally.found:
        sandbox.asked(tally, "--max-examples", str(examples), "--seed", str(seed), *without_pauses())
        seed += 1
    pauses = [word for id in PAUSES for word in ("--include-operation-id", id)]
    alone = ["--phases", "examples,coverage,fuzzing", "--max-examples", str(max(examples // 10, 1))]
    sandbox.asked(tally, *alone, "--seed", str(seed), *pauses)
    tally.read(sandbox.log)
    return tally


def main(cases: int = 20_000) -> int:
    seed, began = random.randrange(1 << 30), time.monotonic()  # noqa: S311  # another run each time
    with tempfile.TemporaryDirectory() as folder, open_sandbox(Path(folder)) as sandbox:
        tally = ask(sandbox, cases, EXAMPLES, seed)
    for (route, status), count in sorted(tally.answers.items()):
        if status != 405:
            print(f"{count:7} {status} {route}")  # noqa: T201
    print(*tally.found, *tally.failures, sep="\n")  # noqa: T201
    took = time.monotonic() - began
    print(  # noqa: T201
        f"{tally.cases} cases from seed {seed} in {took:.0f} s: "
        f"{len(tally.found)} runs with findings, {len(tally.failures)} failures in the log"
    )
    return bool(tally.found or tally.failures or tally.cases < cases)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
