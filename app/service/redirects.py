"""Where the shopper returns to: the shop's own address."""

from urllib.parse import quote, urlsplit, urlunsplit


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
