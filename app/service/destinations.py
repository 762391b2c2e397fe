"""Where callers may send us and their shoppers: judged when an address is given, before anything is kept."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from ssrfguard import BlockedAddressError, BlockedURLError, Policy

from app.domain.errors import Fault

# Names that lead nowhere but into somebody's own network.
LOCAL = re.compile(
    r"(?:.*\.)?(?:localhost|localdomain|local|internal|intranet|lan|home\.arpa|corp|home)\.?", re.IGNORECASE
)
DEFAULT_PORTS = {"https": ":443", "http": ":80"}
PRIVATE = "must not lead into a private network"
# Of a scheme and a port it is judged elsewhere whether they may be used.
POLICY = Policy(allowed_ports=frozenset(range(1, 65536)))


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
        if self.private:
            return None
        if parts.scheme != "https":
            return "must begin with https://"
        if (parts.port or 443) not in self.callback_ports:
            return f"must use one of the ports {', '.join(map(str, sorted(self.callback_ports)))}"
        return PRIVATE if self.is_private(url) else None

    def _redirect_fault(self, url: str) -> str | None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not self.private:
            return "must begin with https://"
        host = parts.netloc.lower().removesuffix(DEFAULT_PORTS[parts.scheme])
        if self.redirect_hosts and host not in self.redirect_hosts:
            return "must be at one of the hosts that shoppers may return to"
        return None

    def is_private(self, url: str) -> bool:
        """It says so itself, where those are closed: by a literal address, or a name that is nobody else's."""
        if self.private:
            return False
        try:
            target = POLICY.check_url(url)
        except (BlockedURLError, BlockedAddressError):
            return True
        return LOCAL.fullmatch(target.host) is not None
