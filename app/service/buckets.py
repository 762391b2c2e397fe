"""How often something may happen by one name, as this process counts it."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import monotonic

from app.domain.errors import RateLimited

MOST_NAMES = 10_000
SLACK = 1e-9  # seconds: what adding many intervals may be off by


@dataclass(frozen=True, slots=True)
class Policy:
    """`per_second` in the long run, `burst` at once."""

    name: str
    per_second: float
    burst: int

    @property
    def seconds(self) -> int:
        """How long it takes at most until all may come again."""
        return ceil(self.burst / self.per_second)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is `left`; `wait` is 0 where one more was let in. Both times are in seconds; after `full`, all are back."""

    policy: Policy
    left: int
    wait: float
    full: float

    @property
    def refusal(self) -> RateLimited:
        return RateLimited("Come back after the seconds in Retry-After.", retry_after=max(1, ceil(self.wait)))


class TokenBuckets:
    """A bucket of tokens for each name, kept as the time at which it is full again; a full one is forgotten.

    Of more than `most` names, those that came the longest ago are forgotten.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float] = monotonic, most: int = MOST_NAMES) -> None:
        self.policy = policy
        self.clock = clock
        self.most = most
        self.interval = 1 / policy.per_second
        self.depth = policy.burst / policy.per_second
        self.full_at: OrderedDict[str, float] = OrderedDict()

    async def take(self, name: str) -> Standing:
        return self.hit(name)

    def hit(self, name: str) -> Standing:
        now = self.clock()
        spent = max(self.full_at.get(name, now) - now, 0.0) + self.interval
        if spent > self.depth + SLACK:
            return self.peek(name)
        self.full_at[name] = now + spent
        self.full_at.move_to_end(name)
        while len(self.full_at) > self.most or next(iter(self.full_at.values())) <= now:
            self.full_at.popitem(last=False)
        return Standing(self.policy, self._left(spent), 0.0, spent)

    def peek(self, name: str) -> Standing:
        """Nothing is taken; `wait` is 0 where one could be."""
        now = self.clock()
        spent = max(self.full_at.get(name, now) - now, 0.0)
        left = self._left(spent)
        return Standing(self.policy, left, 0.0 if left else spent + self.interval - self.depth, spent)

    def _left(self, spent: float) -> int:
        return int((self.depth - spent + SLACK) / self.interval)
