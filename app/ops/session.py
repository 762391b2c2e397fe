"""Who is at the operator's page: a signed cookie that ends with its time, or with the key that opened it."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from secrets import token_hex

from pydantic import SecretStr

from app.service.clock import Clock

COOKIE = "gatehouse_ops"
LASTS = timedelta(hours=12)
LONGEST = 1024
FORM = re.compile(r"([0-9a-f]{16})\.([0-9]{1,11})\.([A-Za-z0-9_-]{1,400})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An admin key."""

    name: str
    secret: SecretStr

    @property
    def digest(self) -> bytes:
        return digest(self.secret.get_secret_value())


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`name` is the key's; `token` is in every form of this session, and in no other's."""

    name: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Nothing is kept of them. `earlier` is the secret before this one: what it signed is still accepted."""

    operators: Sequence[Operator]
    secret: SecretStr
    clock: Clock
    earlier: SecretStr | None = None

    def begin(self, key: str) -> str | None:
        """The cookie of a new session; None where the key is no operator's."""
        given = digest(key)
        known = [each for each in self.operators if hmac.compare_digest(each.digest, given)]
        if not known:
            return None
        ends = int((self.clock() + LASTS).timestamp())
        nonce, name = token_hex(8), urlsafe_b64encode(known[0].name.encode()).rstrip(b"=").decode()
        return f"{nonce}.{ends}.{name}.{self._mac(self.secret, nonce, ends, known[0])}"

    def find(self, cookie: str) -> Session | None:
        """None where we never gave it out, it has ended, or its key is no longer known."""
        found = FORM.fullmatch(cookie) if len(cookie) <= LONGEST else None
        if found is None:
            return None
        nonce, ends, name, given = found[1], int(found[2]), opened(found[3]), found[4]
        if datetime.fromtimestamp(ends, UTC) <= self.clock():
            return None
        secrets = [secret for secret in (self.secret, self.earlier) if secret]
        macs = [
            self._mac(secret, nonce, ends, each) for secret in secrets for each in self.operators if each.name == name
        ]
        if sum(hmac.compare_digest(given, mac) for mac in macs) == 0:
            return None
        return Session(name=name, token=signed(self.secret, f"ops form:{cookie}"))

    def _mac(self, secret: SecretStr, nonce: str, ends: int, operator: Operator) -> str:
        return signed(secret, f"ops session:{nonce}:{ends}:{operator.digest.hex()}:{operator.name}")


def digest(text: str) -> bytes:
    return sha256(text.encode(errors="replace")).digest()


def signed(secret: SecretStr, text: str) -> str:
    return hmac.new(secret.get_secret_value().encode(), text.encode(), sha256).hexdigest()


def opened(name: str) -> str:
    """Whatever was written there; only one that is an operator's name leads anywhere."""
    try:
        return urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode(errors="replace")
    except ValueError:
        return ""
