"""What a fake provider is: a stranger to the rest of the app that speaks a real provider's wire."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from app.simulator.desk import Desk, Notice, Order
from app.simulator.faults import Faults
from app.simulator.pages import Bill
from app.simulator.rules import Rule
from app.simulator.wire import Ask, Malformed, Reply


class Refused(Exception):
    """An operation ends with this answer instead of its own."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the provider's API; no fault befalls an unnamed one. `serves`: what else it is the only call for."""

    name: str | None
    method: str
    path: str
    act: Callable[[Ask], Reply]
    serves: frozenset[str] = frozenset()


class Player(ABC):
    """One fake provider.

    `outcomes` translates the sandbox's words into the provider's own `words`; those in `payable` leave something to
    pay. `amounts` are the members of its answers that state a price. `patience`: seconds a notification may take.
    """

    title: ClassVar[str]
    base: ClassVar[str] = ""
    pages: ClassVar[Sequence[str]] = ("/pay/{reference}",)
    credentials: ClassVar[Mapping[str, str]]
    switches: ClassVar[Mapping[str, Rule]] = {}
    outcomes: ClassVar[Mapping[str, str]]
    words: ClassVar[frozenset[str]]
    payable: ClassVar[frozenset[str]]
    amounts: ClassVar[frozenset[str]]
    patience: ClassVar[float] = 10

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.forget()

    def forget(self) -> None:
        self.desk.clear()
        self.desk.switches = {name: rule.default for name, rule in self.switches.items()}

    @abstractmethod
    def operations(self) -> Iterable[Operation]: ...

    @abstractmethod
    def refuse(self, status: int, message: str) -> Reply:
        """An error in the provider's own shape."""

    @abstractmethod
    def admit(self, ask: Ask) -> None:
        """Raises Refused where the caller's credentials are not the sandbox's."""

    @abstractmethod
    def notices(self, order: Order) -> list[Notice]:
        """What the provider tells the shop about the order as it is now."""

    @abstractmethod
    def bill(self, order: Order) -> Bill: ...

    def find(self, reference: str) -> Order | None:
        return self.desk.orders.get(reference)

    def word(self, outcome: str) -> str:
        return self.outcomes[outcome]

    def is_payable(self, order: Order) -> bool:
        return order.word in self.payable

    def become(self, order: Order, word: str) -> None:
        order.word = word
        order.changed = self.desk.clock()

    def visit(self, order: Order) -> None:  # noqa: B027
        """A person opens the pay page: nothing, for most."""

    def answer(self, operation: Operation, ask: Ask) -> Reply:
        try:
            self.admit(ask)
            return operation.act(ask)
        except Malformed as malformed:
            return self.refuse(400, str(malformed))
        except Refused as refused:
            return refused.reply

    async def settle(self, order: Order, word: str, notify: str) -> int:
        """Bring the order into a state and tell the shop as asked; how many notifications were sent."""
        self.visit(order)
        older = self.notices(order)
        self.become(order, word)
        newer = self.notices(order)
        told = {
            "once": newer,
            "twice": [*newer, *newer],
            "reordered": [*newer, *older],
            "forged": [notice.forged() for notice in newer],
            "none": [],
        }[notify]
        for notice in told:
            await self.desk.tell(notice, self.patience)
        return len(told)

    @property
    def faults(self) -> Faults:
        return self.desk.faults

    def later(self, errand: Coroutine[Any, Any, None]) -> None:
        self.desk.later(errand)


def iso(moment: datetime, timespec: str = "milliseconds") -> str:
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
