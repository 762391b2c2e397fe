"""Take in what providers tell us: verified before anything is read, kept before it is answered, then looked into."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import structlog

from app.domain.delivery import Backlog
from app.domain.errors import NotFound, NotStrictJson, PaymentError, ProviderNotFound, Unauthenticated
from app.domain.invoice import Deposit, Invoice, Snapshot
from app.domain.notification import ReceivedNotification
from app.provider import Notification, Provider
from app.service.addresses import Addresses
from app.service.changes import adopted, apply, deposited
from app.service.hints import Hints, NotNow
from app.service.records import Records
from app.service.recovery import Recovery
from app.storage.inbox import Inbox

log = structlog.get_logger()

AT_ONCE = 64
SOON = timedelta(seconds=1)
# When one that could not be looked into yet is tried again; the last repeats.
WAITS = tuple(timedelta(seconds=wait) for wait in (1, 1, 2, 5, 10, 30, 60, 300, 1800))
GIVEN_UP_AFTER = timedelta(hours=72)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """`under_way` are those that are looked into just now; one that is cut off is due again when its `lease` lapses."""

    inbox: Inbox
    records: Records
    recovery: Recovery
    addresses: Addresses
    hints: Hints
    lease: timedelta
    under_way: set[asyncio.Task[Any]] = field(default_factory=set)

    def addressed(self, name: str, invoice_id: str | None, token: str | None) -> Provider:
        """Whose address it was sent to, judged before it is read; NotFound, or Unauthenticated where we gave none."""
        provider = self.records.providers.get(name)
        if provider is None or provider.notices == "none":
            raise NotFound("There is no provider of this name that notifies.")
        if invoice_id is None:
            given_away = provider.notices == "signed"
        else:
            given_away = self.addresses.proves(name, invoice_id, token or "")
        if not given_away:
            raise unproved(provider)
        return provider

    async def accept(self, provider: Provider, invoice_id: str | None, headers: Mapping[str, str], body: bytes) -> None:
        """Returns once it is kept. Unauthenticated, NotStrictJson: nothing is."""
        now, signed = self.records.clock(), provider.notices == "signed"
        if signed and not provider.verify(headers, body, now):
            raise unproved(provider)
        told = readable(provider, headers, body)
        if told.reference is None and invoice_id is None:
            log.info("notification.ignored", provider=provider.name)
            return
        notice = ReceivedNotification(
            provider=provider.name,
            digest=told.digest if told.deposit else sha256((invoice_id or "").encode() + told.digest).digest(),
            received_at=now,
            invoice_id=invoice_id or told.our_id,
            reference=told.reference,
            body=body,
            signed=signed,
        )
        # What signs nothing may say the same of two changes.
        kept = await self.inbox.receive(notice, now + self.lease, again=not signed and told.deposit is None)
        log.info("notification.received", provider=provider.name, invoice_id=notice.invoice_id, repeated=kept is None)
        if kept is not None:
            self._begin(kept)

    async def see_to_due(self) -> int:
        """How many had been cut off or put off, and are seen to from now on."""
        free = AT_ONCE - len(self.under_way)
        if free <= 0:
            return 0
        now = self.records.clock()
        due = await self.inbox.claim(now, now + self.lease, free)
        for notice in due:
            self._begin(notice)
        return len(due)

    async def backlog(self) -> Backlog:
        """Those that are not settled."""
        return await self.inbox.backlog()

    async def close(self) -> None:
        """What is under way is cut off; whoever works next goes on with it."""
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    def _begin(self, notice: ReceivedNotification) -> None:
        task = asyncio.create_task(self._see_to(notice))
        self.under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """One that stumbles over itself is due again when its lease lapses."""
        self.under_way.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("notification.failed", exc_info=error)

    async def _see_to(self, notice: ReceivedNotification) -> None:
        invoice = await self._whose(notice)
        try:
            done = await self._look_into(notice, invoice)
        except NotNow:
            await self.inbox.postpone(notice.position, self.records.clock() + SOON, tries=notice.tries)
            return
        except PaymentError as error:
            log.info("notification.put_off", provider=notice.provider, invoice_id=notice.invoice_id, code=error.code)
            done = False
        now = self.records.clock()
        if done or now - notice.received_at > GIVEN_UP_AFTER:
            await self.inbox.close(notice, invoice.id if invoice else None, now + SOON)
        else:
            wait = WAITS[min(notice.tries, len(WAITS) - 1)]
            await self.inbox.postpone(notice.position, now + wait, tries=notice.tries + 1)

    async def _look_into(self, notice: ReceivedNotification, invoice: Invoice | None) -> bool:
        """Whether everything in it is settled. NotNow: look again soon."""
        provider = self.records.providers.get(notice.provider)
        if provider is None:
            return False
        deposit = readable(provider, {}, notice.body).deposit
        if invoice is None or invoice.in_doubt:
            done = await (self._link(provider, invoice, notice) if invoice else self._adopt(provider, notice))
            if done and deposit is not None and await self._whose(notice) is not None:
                raise NotNow
            return done
        asked, key = invoice, invoice.id
        if is_new := notice.reference not in (None, invoice.reference, invoice.linked_reference):
            asked, key = replace(invoice, linked_reference=notice.reference), f"{invoice.id} {notice.reference}"
        look = await self.hints.look(provider, key, notice.received_at, provider.fetch_invoice(asked), about=invoice.id)
        if is_new and not is_of(look.seen, invoice):
            log.warning("notification.of_another", provider=provider.name, invoice_id=invoice.id)
            return True
        if look.first:
            await self.records.undo(provider, await self.records.record(invoice.id, provider, look.seen))
        return deposit is None or await self._deposit(notice, invoice, deposit, look.seen)

    async def _whose(self, notice: ReceivedNotification) -> Invoice | None:
        store = self.records.store
        invoice = await store.invoice(notice.invoice_id) if notice.invoice_id else None
        if invoice is None and notice.reference:
            return await store.by_reference(notice.provider, notice.reference)
        return invoice

    async def _adopt(self, provider: Provider, notice: ReceivedNotification) -> bool:
        """It may have been made elsewhere; or here, just now, and is not recorded yet: then it waits."""
        if notice.reference is None:
            return True
        shell = adopted(provider.name, Snapshot(reference=notice.reference, status=None), self.records.clock())
        key = f"{provider.name} {notice.reference}"
        try:
            look = await self.hints.look(provider, key, notice.received_at, provider.fetch_invoice(shell))
        except ProviderNotFound:
            return True
        at, store = self.records.clock(), self.records.store
        await store.adopt(
            provider.name,
            [look.seen],
            lambda seen: adopted(provider.name, seen, at),
            lambda invoice, seen: apply(invoice, seen, at),
        )
        return await store.by_reference(provider.name, look.seen.reference) is not None

    async def _link(self, provider: Provider, invoice: Invoice, notice: ReceivedNotification) -> bool:
        """One whose create is in doubt: the token says what came of it. While the create runs, it waits."""
        now = self.records.clock()
        if invoice.asked_until is not None and invoice.asked_until > now:
            return False
        if notice.reference is None or notice.invoice_id is None:
            await self.recovery.resolve(invoice.id)
            return True
        named = replace(invoice, reference=notice.reference)
        look = await self.hints.look(
            provider, invoice.id, notice.received_at, provider.fetch_invoice(named), invoice.id
        )
        if invoice.contradicts(look.seen) or look.seen.our_id not in (None, invoice.id):
            await self.recovery.resolve(invoice.id)
            return True
        log.info("create.told", invoice_id=invoice.id, provider=provider.name)
        await self.records.record(invoice.id, provider, look.seen)
        return True

    async def _deposit(self, notice: ReceivedNotification, invoice: Invoice, deposit: Deposit, seen: Snapshot) -> bool:
        """One fact for one deposit: as it was signed, or as we have seen it ourselves."""
        told = deposit if notice.signed else next((each for each in seen.deposits if each.id == deposit.id), None)
        if told is None:
            return False
        at = self.records.clock()
        await self.records.store.deposit(notice.position, invoice.id, lambda invoice: deposited(invoice, told, at))
        return True


def is_of(seen: Snapshot, invoice: Invoice) -> bool:
    """Whether what was found under an id that is new to us is this invoice's, and no other's."""
    return seen.our_id == invoice.id or seen.linked_reference in (None, invoice.linked_reference)


def unproved(provider: Provider) -> Unauthenticated:
    log.warning("notification.refused", provider=provider.name)
    return Unauthenticated("The notification does not prove where it comes from.")


def readable(provider: Provider, headers: Mapping[str, str], body: bytes) -> Notification:
    """NotStrictJson where nobody can tell what it says."""
    try:
        return provider.read_notification(headers, body)
    except (ValueError, RecursionError) as error:
        raise NotStrictJson(f"{provider.name} sends no such notification.") from error
