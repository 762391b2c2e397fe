"""A provider's latest calls as two small pictures: how long they took, and which failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

WIDTH, HEIGHT = 200, 32
BARS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparklines:
    """`line` are the points of an SVG polyline; `bars` are each (x, y, width, height). `longest` is in milliseconds."""

    count: int
    failed: int
    longest: int
    line: str
    bars: Sequence[tuple[int, int, int, int]]

    @classmethod
    def of(cls, calls: Sequence[tuple[float, bool]]) -> Self | None:
        """Of (milliseconds, whether it went well), the oldest first; None without any."""
        if not calls:
            return None
        times = [ms for ms, _ in calls]
        return cls(
            count=len(calls),
            failed=sum(not good for _, good in calls),
            longest=round(max(times)),
            line=points(times if len(times) > 1 else times * 2),
            bars=list(bars([good for _, good in calls])),
        )


def points(times: Sequence[float]) -> str:
    most = max(*times, 1)
    last = len(times) - 1
    return " ".join(
        f"{round(index * WIDTH / last, 1)},{round(HEIGHT - 1 - ms * (HEIGHT - 2) / most, 1)}"
        for index, ms in enumerate(times)
    )


def bars(goods: Sequence[bool]) -> list[tuple[int, int, int, int]]:
    """One for each stretch of calls in which some failed, as high as the share of them that did."""
    stretches = groupby(enumerate(goods), lambda one: one[0] * BARS // max(len(goods), BARS))
    drawn = []
    for at, stretch in stretches:
        held = [good for _, good in stretch]
        if height := round(HEIGHT * held.count(False) / len(held)):
            drawn.append((at * WIDTH // BARS, HEIGHT - height, WIDTH // BARS - 2, height))
    return drawn
