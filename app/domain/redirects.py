"""Where the shopper returns to: the shop's own address."""

from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from app.domain.invoice import Invoice


def filled(redirect_url: str | None, *, invoice_id: str, order_id: str | None) -> str | None:
    """With `{invoice_id}` and `{order_id}` filled in."""
    if redirect_url is None:
        return None
    parts = urlsplit(redirect_url)
    names = {"{invoice_id}": invoice_id, "{order_id}": order_id or ""}
    path, query, fragment = parts.path, parts.query, parts.fragment
    for name, value in names.items():
        path, query, fragment = (part.replace(name, quote(value, safe="")) for part in (path, query, fragment))
    return urlunsplit((parts.scheme, parts.netloc, path, query, fragment))


def returning(redirect_url: str, invoice: Invoice) -> str:
    """The shop's address with our ids in its query; what it had there already, and its fragment, survive."""
    parts = urlsplit(redirect_url)
    ids = {"invoiceId": invoice.id} | ({"orderId": invoice.order_id} if invoice.order_id else {})
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(ids))))))
