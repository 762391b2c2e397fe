"""What came of many tries, each of which can be made again by itself."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random


@dataclass
class Tally:
    """How often each thing came of it, and whatever should not have."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def chances(count: int, seed: int) -> Iterator[tuple[str, Random]]:
    """Each is drawn from a seed of its own, by which it is named."""
    for number in range(count):
        yield f"{seed}-{number}", Random(f"{seed}-{number}")  # noqa: S311  # no secret hangs on it
