"""Every address of ours that we hand out, and the tokens in them; none is ever built from a request's Host header."""

from dataclasses import dataclass

from app.service.signing import Signer

TOKEN_HEX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    public_url: str
    signer: Signer

    def notification(self, provider: str, invoice_id: str) -> str:
        """Where a provider may tell us about one invoice; 160 bits that nobody can guess are in it."""
        token = self.signer.mac(f"webhook:{provider}:{invoice_id}", TOKEN_HEX)
        return f"{self.public_url}/webhooks/{provider}/{invoice_id}?token={token}"

    def proves(self, provider: str, invoice_id: str, token: str) -> bool:
        """Whether the token is the one in that address."""
        return self.signer.signed(token, f"webhook:{provider}:{invoice_id}", digits=TOKEN_HEX)

    def client_secret(self, invoice_id: str) -> str:
        """What lets a browser see and pay one invoice; it is made of the id, and kept nowhere."""
        return f"{invoice_id}.{self.signer.mac(f'client:{invoice_id}', TOKEN_HEX)}"

    def client_of(self, client_secret: str) -> str | None:
        """The invoice that it is for; None where we never gave it out."""
        invoice_id, _, given = client_secret.partition(".")
        return invoice_id if self.signer.signed(given, f"client:{invoice_id}", digits=TOKEN_HEX) else None

    def pay(self, invoice_id: str) -> str:
        """A link for the shopper's browser."""
        return f"{self.public_url}/pay/{self.client_secret(invoice_id)}"
