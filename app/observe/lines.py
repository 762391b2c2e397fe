"""What becomes the one line about a request, wherever in its course it is found out."""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

# W3C Trace Context: version, trace id, parent id, flags. Neither id may be all zeros, and no version is ff.
TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Stopwatch:
    """How long at least one of several things that may overlap was under way; it is entered once for each."""

    under_way: int = 0
    since: float = 0.0
    total: float = 0.0

    def __enter__(self) -> None:
        if not self.under_way:
            self.since = perf_counter()
        self.under_way += 1

    def __exit__(self, *_: object) -> None:
        self.under_way -= 1
        if not self.under_way:
            self.total += perf_counter() - self.since

    def seconds(self) -> float:
        return self.total + (perf_counter() - self.since if self.under_way else 0.0)


@dataclass(slots=True)
class Line:
    """One request's. `facts` are what the rooms behind found out, `upstream` the time that its providers took."""

    request_id: str
    traceparent: str | None = None
    status: int | None = None
    facts: dict[str, object] = field(default_factory=dict)
    upstream: Stopwatch = field(default_factory=Stopwatch)
    began: float = field(default_factory=perf_counter)

    def times(self) -> tuple[float, float]:
        """Milliseconds so far: the providers' and our own."""
        provider = self.upstream.seconds()
        return provider * 1000, max(perf_counter() - self.began - provider, 0.0) * 1000


# A task that a request begins has a copy of its context, and so the same line.
LINE: ContextVar[Line | None] = ContextVar("line", default=None)
NOBODY_WAITS = nullcontext()


def upstream() -> AbstractContextManager[None]:
    """While a provider is being asked, for the request that this is done for, if it is for one."""
    line = LINE.get()
    return NOBODY_WAITS if line is None else line.upstream


def traceparent() -> str | None:
    """What the request that this is done for is a part of, in the words of its caller's `traceparent` header."""
    line = LINE.get()
    return None if line is None else line.traceparent


def traceparent_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """None where it is not just one, or not as it has to be."""
    sent = [value for name, value in headers if name == b"traceparent"]
    return sent[0].decode() if len(sent) == 1 and TRACEPARENT.fullmatch(sent[0]) else None
