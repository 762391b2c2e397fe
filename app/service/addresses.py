"""Every address of ours that we hand out, and the tokens in them; none is ever built from a request's Host header."""

import hmac
from dataclasses import dataclass
from hashlib import sha256

from pydantic import SecretStr

TOKEN_HEX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """`earlier` is the secret before this one: what it signed is still accepted."""

    public_url: str
    secret: SecretStr
    earlier: SecretStr | None = None

    def notification(self, provider: str, invoice_id: str) -> str:
        """Where a provider may tell us about one invoice; 160 bits that nobody can guess are in it."""
        token = mac(self.secret, f"webhook:{provider}:{invoice_id}")
        return f"{self.public_url}/webhooks/{provider}/{invoice_id}?token={token}"

    def proves(self, provider: str, invoice_id: str, token: str) -> bool:
        """Whether the token is the one in that address."""
        return self._is_mac(token, f"webhook:{provider}:{invoice_id}")

    def client_secret(self, invoice_id: str) -> str:
        """What lets a browser see and pay one invoice; it is made of the id, and kept nowhere."""
        return f"{invoice_id}.{mac(self.secret, f'client:{invoice_id}')}"

    def client_of(self, client_secret: str) -> str | None:
        """The invoice that it is for; None where we never gave it out."""
        invoice_id, _, given = client_secret.partition(".")
        return invoice_id if self._is_mac(given, f"client:{invoice_id}") else None

    def pay(self, invoice_id: str) -> str:
        """A link for the shopper's browser."""
        return f"{self.public_url}/pay/{self.client_secret(invoice_id)}"

    def _is_mac(self, given: str, text: str) -> bool:
        """Every secret is compared with, whichever it was."""
        macs = [mac(secret, text).encode() for secret in (self.secret, self.earlier) if secret]
        return sum(hmac.compare_digest(given.encode(errors="replace"), each) for each in macs) > 0


def mac(secret: SecretStr, text: str) -> str:
    return hmac.new(secret.get_secret_value().encode(), text.encode(), sha256).hexdigest()[:TOKEN_HEX]
