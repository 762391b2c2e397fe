"""A stranger's tool reads the OpenAPI document and asks a running sandbox all that it allows, and much else."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.contract.tally import Tally
from tests.processes import Served, served

TOOL = str(Path(sys.executable).parent / "schemathesis")
CONFIG = Path(__file__).parent.parent / "schemathesis.toml"
GENERATED = re.compile(r"(\d+) generated")
PAUSES = ("pauseProvider", "resumeProvider")

# Deliveries go to a port that nobody listens on, so that no made-up address is ever knocked at; a create that names no
# provider goes to whichever takes it.
ENVIRONMENT = {
    "GATEHOUSE_RATE_LIMIT": "off",
    "GATEHOUSE_MAX_AGE": "0.2",
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


def try_many(count: int, seed: int, examples: int = 300) -> Tally:
    """Everything but the pauses, which make other calls fail; those come last, by themselves."""
    tally, cases = Tally(), 0
    others = [word for id in PAUSES for word in ("--exclude-operation-id", id)]
    pauses = [word for id in PAUSES for word in ("--include-operation-id", id)]
    alone = ("--phases", "examples,coverage,fuzzing", "--max-examples", str(max(examples // 10, 1)))
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), **ENVIRONMENT) as sandbox:
        while cases < count and not tally.findings:
            cases += asked(sandbox, tally, "--max-examples", str(examples), "--seed", str(seed), *others)
            seed += 1
        asked(sandbox, tally, *alone, "--seed", str(seed), *pauses)
        read(sandbox.log, tally)
    return tally


def asked(sandbox: Served, tally: Tally, *options: str) -> int:
    """How many cases the tool has made; what it says is kept where it found something."""
    command = [TOOL, f"--config-file={CONFIG}", "run", f"{sandbox.url}/openapi.json", *options]
    run = subprocess.run(command, cwd=sandbox.log.parent, capture_output=True, text=True, check=False)
    generated = GENERATED.search(run.stdout)
    if run.returncode or not generated:
        tally.findings.append(run.stdout + run.stderr)
    return int(generated[1]) if generated else 0


def read(log: Path, tally: Tally) -> None:
    """What the service says of it. The simulators do nothing wrong unless told to, so nothing may be answered 5xx."""
    for line in log.read_text().split("\n"):
        told = json.loads(line) if line.startswith("{") else {}
        if told.get("level") == "error" or line.startswith("Traceback"):
            tally.findings.append(line)
        if told.get("event") == "request":
            tally.outcomes[f"{told['method']} {told.get('route')} {told['status']}"] += 1
            if told["status"] >= 500:
                tally.findings.append(line)
