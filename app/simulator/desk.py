"""The desk of a fake provider: the orders on it, how it is told to behave, and a phone to call the shop."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from app.simulator.faults import Faults

LOG_LENGTH = 10_000


@dataclass(slots=True, kw_only=True)
class Order:
    """What was asked for, and the provider's own word for what became of it."""

    reference: str
    word: str
    asked: dict[str, Any]
    created: datetime
    changed: datetime
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notification: its exact bytes, the headers that vouch for them, and the seconds before it is sent again."""

    url: str
    body: bytes
    vouched: Mapping[str, str] = field(default_factory=dict)
    waits: Sequence[float] = ()

    def forged(self) -> "Notice":
        """The same with signatures, and whatever token is in the address, that nobody gave out."""
        parts = urlsplit(self.url)
        query = urlencode([(name, "forged") for name, _ in parse_qsl(parts.query)])
        url = parts._replace(query=query or ("" if self.vouched else "token=forged")).geturl()
        return replace(
            self, url=url, vouched={name: "0" * len(value) for name, value in self.vouched.items()}, waits=()
        )


@dataclass(slots=True, kw_only=True)
class Desk:
    """`url` is the provider's part of the sandbox, `notify` the service's base address."""

    url: str
    notify: str
    http: httpx.AsyncClient
    clock: Callable[[], datetime]
    switches: dict[str, Any] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    errands: set[asyncio.Task[None]] = field(default_factory=set)

    def open(self, reference: str, word: str, asked: dict[str, Any], **notes: Any) -> Order:
        now = self.clock()
        self.orders[reference] = Order(
            reference=reference, word=word, asked=asked, created=now, changed=now, notes=notes
        )
        return self.orders[reference]

    async def tell(self, notice: Notice, patience: float) -> None:
        """Deliver it, within so many seconds; where that fails, again after each of its waits, in the background."""
        if not await self._delivered(notice, patience) and notice.waits:
            self.later(self._insist(notice, patience))

    async def _insist(self, notice: Notice, patience: float) -> None:
        for wait in notice.waits:
            await asyncio.sleep(wait)
            if await self._delivered(notice, patience):
                return

    async def _delivered(self, notice: Notice, patience: float) -> bool:
        headers = {"content-type": "application/json", **notice.vouched}
        try:
            answer = await self.http.post(notice.url, content=notice.body, headers=headers, timeout=patience)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return answer.status_code == httpx.codes.OK

    def later(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(errand)
        self.errands.add(task)
        task.add_done_callback(self.errands.discard)

    def clear(self) -> None:
        for errand in self.errands:
            errand.cancel()
        self.orders.clear()
        self.faults.clear()
        self.requests.clear()
