"""At length what the suite does briefly: `python -m tests.contract answers|letters|liars|strangers [how many]`."""

import asyncio
import random
import sys
import time
from collections.abc import Callable

from app.observe import configure_logging
from tests.contract import answers, letters, liars, strangers
from tests.contract.tally import Tally

# What is tried, and how often unless it is said.
RUNS: dict[str, tuple[Callable[[int, int], Tally], int]] = {
    "answers": (lambda count, seed: asyncio.run(answers.try_many(count, seed)), 60_000),
    "letters": (letters.try_many, 20_000),
    "liars": (lambda count, seed: asyncio.run(liars.try_many(count, seed)), 5_000),
    "strangers": (strangers.try_many, 20_000),
}


def main(what: str, count: int = 0) -> int:
    configure_logging("error")
    try_many, usual = RUNS[what]
    seed, began = random.randrange(1 << 30), time.monotonic()  # noqa: S311  # another run each time
    tally = try_many(count or usual, seed)
    for outcome, times in sorted(tally.outcomes.items()):
        print(f"{times:7} {outcome}")  # noqa: T201
    print(*tally.findings[:20], sep="\n")  # noqa: T201
    tried, took = tally.outcomes.total(), time.monotonic() - began
    print(f"{what}: {tried} from seed {seed} in {took:.0f} s, {len(tally.findings)} findings")  # noqa: T201
    return bool(tally.findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
