"""Every address of ours that we hand out, and the tokens in them; none is ever built from a request's Host header."""

import hmac
from dataclasses import dataclass
from hashlib import sha256

from pydantic import SecretStr

TOKEN_HEX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    public_url: str
    secret: SecretStr

    def notification(self, provider: str, invoice_id: str) -> str:
        """Where a provider may tell us about one invoice; 160 bits that nobody can guess are in it."""
        token = self._mac(f"webhook:{provider}:{invoice_id}")
        return f"{self.public_url}/webhooks/{provider}/{invoice_id}?token={token}"

    def _mac(self, text: str) -> str:
        return hmac.new(self.secret.get_secret_value().encode(), text.encode(), sha256).hexdigest()[:TOKEN_HEX]
