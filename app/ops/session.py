"""Who is at the operator's page: a signed cookie that ends with its time, or with the key that opened it."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from app.service.clock import Clock
from app.service.keys import Keys, Role, digest
from app.service.signing import Signer

COOKIE = "gatehouse_ops"
LASTS = timedelta(hours=12)
LONGEST = 1024
FORM = re.compile(r"([0-9a-f]{16})\.([0-9]{1,11})\.([A-Za-z0-9_-]{1,400})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`name` is the key's; `token` is in every form of this session, and in no other's."""

    name: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Of whoever has an admin key. Nothing is kept of them."""

    keys: Keys
    signer: Signer
    clock: Clock

    def begin(self, key: str) -> str | None:
        """The cookie of a new session; None where the key is no operator's."""
        caller = self.keys.find(key)
        if caller is None or not caller.may(Role.ADMIN):
            return None
        ends = int((self.clock() + LASTS).timestamp())
        nonce, name = token_hex(8), urlsafe_b64encode(caller.name.encode()).rstrip(b"=").decode()
        return f"{nonce}.{ends}.{name}.{self.signer.mac(claim(nonce, ends, digest(key), caller.name))}"

    def find(self, cookie: str) -> Session | None:
        """None where we never gave it out, it has ended, or its key is no longer known."""
        found = FORM.fullmatch(cookie) if len(cookie) <= LONGEST else None
        if found is None:
            return None
        nonce, ends, name, given = found[1], int(found[2]), opened(found[3]), found[4]
        if datetime.fromtimestamp(ends, UTC) <= self.clock():
            return None
        texts = [claim(nonce, ends, key, name) for key in self.keys.digests(name, Role.ADMIN)]
        if not self.signer.signed(given, *texts):
            return None
        return Session(name=name, token=self.signer.mac(f"ops form:{cookie}"))


def claim(nonce: str, ends: int, key: bytes, name: str) -> str:
    """What a cookie claims; `key` is the digest of the one that opened the session."""
    return f"ops session:{nonce}:{ends}:{key.hex()}:{name}"


def opened(name: str) -> str:
    """Whatever was written there; only one that is an operator's name leads anywhere."""
    try:
        return urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode(errors="replace")
    except ValueError:
        return ""
