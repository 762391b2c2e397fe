"""The same key and the same request are one call: its first answer is given again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from time import monotonic
from typing import TypeAlias

from app.aside import aside
from app.domain.errors import IdempotencyInProgress, IdempotencyMismatch, OutcomeUnknown, PaymentError
from app.service.clock import Clock
from app.service.creation import KeyTaken
from app.storage.idempotency import IdempotencyKey, Kept
from app.storage.store import Store

# A twin waits this long for the first to be answered.
PATIENCE_SECONDS = 2.0
LOOK_EVERY_SECONDS = 0.05

Act: TypeAlias = Callable[[], Awaitable[bytes]]
GoOn: TypeAlias = Callable[[Kept | None], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Told:
    """The body of an answer, and whether it was given before."""

    body: bytes
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """`lease` is how long a call may run before it counts as cut off."""

    store: Store
    clock: Clock
    lease: timedelta

    async def once(self, key: IdempotencyKey | None, act: GoOn) -> Told:
        """`act` makes the call, or goes on with one that was cut off or is in doubt; KeyTaken: another was quicker."""
        if key is None:
            return Told(await act(None), replayed=False)
        patience = monotonic() + PATIENCE_SECONDS
        while True:
            kept = await self._settled(key, patience)
            if kept is not None and kept.answer is not None:
                return Told(kept.answer, replayed=True)
            try:
                return Told(await act(kept), replayed=False)
            except KeyTaken:
                continue

    async def again(self, key: IdempotencyKey | None, invoice_id: str, act: Act) -> Told:
        """For a call that may be made again when it is in doubt, as a checkout may."""

        async def make(_kept: Kept | None) -> bytes:
            if key is None:
                return await act()
            now = self.clock()
            if not await self.store.take_key(key, invoice_id, now, now + self.lease):
                raise KeyTaken
            return await self._held(key, invoice_id, act)

        return await self.once(key, make)

    async def _held(self, key: IdempotencyKey, invoice_id: str, act: Act) -> bytes:
        try:
            body = await act()
        except OutcomeUnknown:
            await self.store.doubt_key(key)
            raise
        except PaymentError:
            await self.store.free_key(key, invoice_id)
            raise
        await self.store.settle_key(key, self.clock(), body)
        return body

    async def _settled(self, key: IdempotencyKey, patience: float) -> Kept | None:
        """What is kept under the key, once no call runs under it."""
        while True:
            kept = await self.store.kept(key, self.clock())
            if kept is not None and kept.fingerprint != key.fingerprint:
                raise IdempotencyMismatch("This key was used for another request.")
            if kept is None or not kept.running(self.clock()):
                return kept
            if monotonic() > patience:
                raise IdempotencyInProgress("The first call with this key is still running.", retry_after=1)
            with aside():
                await asyncio.sleep(LOOK_EVERY_SECONDS)


def fingerprint(path: str, canonical: bytes) -> bytes:
    return sha256(path.encode() + b"\n" + canonical).digest()
