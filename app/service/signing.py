"""What we hand out and must know again: whoever lacks our secret can't have made it."""

import hmac
from dataclasses import dataclass
from hashlib import sha256

from pydantic import SecretStr

WHOLE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """`earlier` is the secret before this one: what it signed is still accepted. `digits` of a MAC are hexadecimal."""

    secret: SecretStr
    earlier: SecretStr | None = None

    def mac(self, text: str, digits: int = WHOLE) -> str:
        return mac(self.secret, text)[:digits]

    def signed(self, given: str, *texts: str, digits: int = WHOLE) -> bool:
        """Whether it is the MAC of one of these. Each is compared with, whichever it was."""
        secrets = [secret for secret in (self.secret, self.earlier) if secret]
        macs = [mac(secret, text)[:digits].encode() for secret in secrets for text in texts]
        return sum(hmac.compare_digest(given.encode(errors="replace"), each) for each in macs) > 0


def mac(secret: SecretStr, text: str) -> str:
    return hmac.new(secret.get_secret_value().encode(), text.encode(), sha256).hexdigest()
