"""Who may call: API keys, each with a name and a role, found by the digest of their secret."""

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
class Key:
    name: str
    role: Role
    secret: SecretStr
    invoice_id: str | None = None

    @classmethod
    def of_shopper(cls, invoice_id: str, client_secret: str) -> Self:
        return cls(
            name=f"shopper {invoice_id}", role=Role.SHOPPER, secret=SecretStr(client_secret), invoice_id=invoice_id
        )

    def may(self, role: Role) -> bool:
        return self.role >= role

    def require(self, role: Role) -> None:
        if not self.may(role):
            raise Forbidden(f"This takes a key with the role {role.word}; yours is {self.role.word}.")


class Keys:
    """Looked up by digest, so that nothing about a secret can be learned from how long the look-up takes."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.by_digest = {digest(key.secret.get_secret_value()): key for key in keys}

    def find(self, secret: str) -> Key | None:
        return self.by_digest.get(digest(secret))


def bearer(authorization: str) -> str | None:
    """The secret in the header's value; None where it is of another scheme."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
