"""Who may call: API keys, each of a caller with a name and a role, found by their digest."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Self

from pydantic import SecretStr

from app.domain.errors import Forbidden


class Role(IntEnum):
    """Each may do what the one before it may; a shopper has no key, but the client secret of one invoice."""

    SHOPPER = 0
    READ = 1
    WRITE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """By whom a request is made: whoever has a key, or the shopper of one invoice."""

    name: str
    role: Role
    invoice_id: str | None = None

    @classmethod
    def shopper(cls, invoice_id: str) -> Self:
        return cls(name=f"shopper {invoice_id}", role=Role.SHOPPER, invoice_id=invoice_id)

    def may(self, role: Role) -> bool:
        return self.role >= role

    def require(self, role: Role) -> None:
        if not self.may(role):
            raise Forbidden(f"This takes a key with the role {role.word}; yours is {self.role.word}.")


class Keys:
    """Looked up by digest, so that nothing about a secret can be learned from how long the look-up takes."""

    def __init__(self, callers: Iterable[tuple[SecretStr, Caller]] = ()) -> None:
        self.callers = {digest(secret.get_secret_value()): caller for secret, caller in callers}

    def find(self, secret: str) -> Caller | None:
        return self.callers.get(digest(secret))

    def digests(self, name: str, role: Role) -> list[bytes]:
        """Of every key of that name with which one may do as much."""
        return [key for key, caller in self.callers.items() if caller.name == name and caller.may(role)]


def bearer(authorization: str) -> str | None:
    """The secret in the header's value; None where it is of another scheme."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="replace")).digest()
