"""Every address of ours that we hand out, and the tokens in them; none is ever built from a request's Host header."""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import SecretStr

TOKEN_HEX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """`secrets` are the key that signs, then the one before it, which is still accepted."""

    public_url: str
    secrets: tuple[SecretStr, ...]

    def notification(self, provider: str, invoice_id: str) -> str:
        """Where a provider may tell us about one invoice; 160 bits that nobody can guess are in it."""
        token = self._mac(self.secrets[0], f"webhook:{provider}:{invoice_id}")
        return f"{self.public_url}/webhooks/{provider}/{invoice_id}?token={token}"

    @staticmethod
    def _mac(secret: SecretStr, text: str) -> str:
        return hmac.new(secret.get_secret_value().encode(), text.encode(), sha256).hexdigest()[:TOKEN_HEX]


def filled(redirect_url: str | None, *, invoice_id: str, order_id: str | None) -> str | None:
    """The shop's address with `{invoice_id}` and `{order_id}` filled in."""
    if redirect_url is None:
        return None
    parts = urlsplit(redirect_url)
    names = {"{invoice_id}": invoice_id, "{order_id}": order_id or ""}
    path, query, fragment = parts.path, parts.query, parts.fragment
    for name, value in names.items():
        path, query, fragment = (part.replace(name, quote(value, safe="")) for part in (path, query, fragment))
    return urlunsplit((parts.scheme, parts.netloc, path, query, fragment))
