"""Many callers who want the same thing at the same moment share one flight to get it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from app.aside import aside

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flights:
    """A flight goes on to its end even if everyone who waits for it gives up."""

    under_way: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)

    async def join(self, key: Hashable, depart: Callable[[], Coroutine[Any, Any, T]]) -> T:
        under_way = self.under_way.get(key)
        if under_way is None:
            return await asyncio.shield(self.start(key, depart))
        with aside():
            return cast("T", await asyncio.shield(under_way))

    def start(self, key: Hashable, depart: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Task[T]":
        task = self.under_way.get(key)
        if task is None:
            task = asyncio.create_task(depart())
            self.under_way[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return task

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self.under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved, so that a flight nobody waits for any more ends quietly
