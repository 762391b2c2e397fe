"""Where callers may send us and their shoppers: judged when an address is given, before anything is kept."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import urlsplit

import httpx
from ssrfguard import DEFAULT_DENIED, AddressTable, Block, BlockedAddressError, BlockedURLError, Policy, Reach

from app.domain.errors import Fault

# Names that lead nowhere but into somebody's own network: those without a dot, and those that nobody has in public.
LOCAL = re.compile(
    r"[^.:]+\.?|"
    r"(?:.*\.)?(?:localhost|localdomain|local|internal|intranet|lan|home\.arpa|corp|home|metadata\.goog)\.?",
    re.IGNORECASE,
)
DEFAULT_PORTS = {"https": ":443", "http": ":80"}
PRIVATE = "must not lead into a private network"
ODD = "must have a host name that can be looked up"
# A public address that Azure answers to its own machines, with what only they may know.
WIRE_SERVER = Block(ip_network("168.63.129.16/32"), "Azure's wire server", "", Reach.DENIED)
# Of a scheme and a port it is judged elsewhere whether they may be used.
POLICY = Policy(
    allowed_ports=frozenset(range(1, 65536)),
    denied_networks=AddressTable((*DEFAULT_DENIED.blocks, WIRE_SERVER)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """`private`: private networks are open to us, deliberately, and plain http with them.

    Events go to `callback_ports` only. Shoppers return to `redirect_hosts`, each a host or a host and a port, exactly;
    where there are none, to any host.
    """

    private: bool
    callback_ports: frozenset[int]
    redirect_hosts: frozenset[str] = frozenset()

    def faults(self, *, callback_url: str | None = None, redirect_url: str | None = None) -> Iterator[Fault]:
        if callback_url is not None and (wrong := self.callback_fault(callback_url)):
            yield Fault("/callback_url", wrong)
        if redirect_url is not None and (wrong := self._redirect_fault(redirect_url)):
            yield Fault("/redirect_url", wrong)

    def permits(self, address: str) -> bool:
        """Whether an address that a name has become may be connected to."""
        try:
            return self.private or POLICY.permits_address(address)
        except ValueError:
            return False

    def callback_fault(self, url: str) -> str | None:
        """What is wrong with where events are to be sent."""
        parts = urlsplit(url)
        if parts.fragment:
            return "must have no fragment, which is never sent"
        if "@" in parts.netloc:
            return "must have no user name"
        if parts.scheme != "https" and not self.private:
            return "must begin with https://"
        if (parts.port or 443) not in self.callback_ports and not self.private:
            return f"must use one of the ports {', '.join(map(str, sorted(self.callback_ports)))}"
        return self.host_fault(url)

    def host_fault(self, url: str) -> str | None:
        """What is wrong with its host as it is written; a literal address and a name that is nobody else's say it."""
        if not is_sendable(url):
            return ODD
        if self.private:
            return None
        try:
            target = POLICY.check_url(url)
        except BlockedURLError as error:
            return PRIVATE if isinstance(error.__cause__, BlockedAddressError) else ODD
        return PRIVATE if LOCAL.fullmatch(target.host) else None

    def _redirect_fault(self, url: str) -> str | None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not self.private:
            return "must begin with https://"
        usual = DEFAULT_PORTS[parts.scheme]
        host = parts.netloc.lower().removesuffix(usual)
        if self.redirect_hosts and self.redirect_hosts.isdisjoint({host, host + usual}):
            return "must be at one of the hosts that shoppers may return to"
        return None


def is_sendable(url: str) -> bool:
    """Whether its host is one to our client too, which takes every xn-- apart."""
    try:
        return bool(httpx.URL(url).host)
    except (httpx.InvalidURL, UnicodeError):
        return False
