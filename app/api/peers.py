"""Whose address a call comes from, where proxies that are trusted may stand between."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REMEMBERED = 10_000
LONGEST_HOP = 64
SITE_BITS = 64  # what one subscriber is given of IPv6


@dataclass(frozen=True, slots=True)
class Peers:
    """`trusted` are those whose X-Forwarded-For is believed."""

    trusted: tuple[Network, ...] = ()

    def client(self, scope: Scope) -> str:
        """The nearest hop that is not trusted; an IPv6 address by its /64."""
        peer = scope["client"][0] if scope.get("client") else ""
        here = address(peer)
        if here is None:
            return peer
        for hop in hops(scope) if self.trusted else ():
            there = address(hop) if self._trusts(here) and len(hop) <= LONGEST_HOP else None
            if there is None:
                break
            here = there
        return grouped(here)

    def _trusts(self, here: Address) -> bool:
        return any(here in network for network in self.trusted)


def hops(scope: Scope) -> Iterator[str]:
    """The nearest first."""
    told = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    return reversed(told.split(",")) if told else iter(())


@lru_cache(maxsize=REMEMBERED)
def address(text: str) -> Address | None:
    """None where it is no address; a port is passed over, and an IPv4 address in IPv6's clothes is one of IPv4."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ip_address(bare)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@lru_cache(maxsize=REMEMBERED)
def grouped(here: Address) -> str:
    return str(here if here.version == 4 else IPv6Network((int(here), SITE_BITS), strict=False))
