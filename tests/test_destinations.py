"""Where callers may send us and their shoppers, and where not: judged when it is given, and again when we connect."""

import socket
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.service.destinations import Destinations
from app.wire import NotSent, Wire
from tests.callers import is_problem
from tests.world import World, open_world

pytestmark = pytest.mark.anyio

# First, some and last of what IANA has set aside, and the clouds' own.
SET_ASIDE = [
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.0",
    "10.1.2.3",
    "10.255.255.255",
    "100.64.0.0",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.0.0.2",
    "127.1.1.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "172.20.10.1",
    "192.0.0.0",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.0",
    "192.168.1.1",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "250.1.2.3",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::1]",
    "[100::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2002:a00:1::]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd12:3456:789a::1]",
    "[fe80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff05::2]",
    "[3fff::1]",
    "[5f00::1]",
]
SPELLED = [
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "10.1",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "169.16689662",
    "2852039166",
    "025177524776",
    "0251.0376.0251.0376",
    "127.0.0.1.",
    "127.0.0.01",
    "00000177.0.0.1",
    "0",
    "0x0",
    "1",
    "0x7f.0x0.0x0.0x1",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "[::1%25lo]",
    "[fe80::1%25eth0]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:0x7f.1]",
    "[::1",
    "::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "localhost.localdomain",
    "metadata.google.internal",
    "METADATA.GOOGLE.INTERNAL.",
    "kubernetes.default.svc.cluster.local",
    "db.internal",
    "printer.local",
    "router.lan",
    "nas.home.arpa",
    "wiki.intranet",
]
TRICKS = [
    "http://shop.example/hooks",
    "ftp://shop.example/hooks",
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/x",
    "dict://shop.example:11211/",
    "ldap://shop.example/",
    "jar:https://shop.example!/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "//shop.example/hooks",
    "/hooks",
    "shop.example/hooks",
    "https:shop.example",
    "https:/shop.example",
    "https:///hooks",
    "https://",
    "https://?x",
    "https://user@shop.example/",
    "https://user:pass@shop.example/",
    "https://shop.example@127.0.0.1/",
    "https://127.0.0.1#@shop.example/",
    "https://127.0.0.1\\@shop.example/",
    "https://shop.example\\@127.0.0.1/",
    "https:\\\\shop.example\\hooks",
    "https://shop.example/hooks#fragment",
    "https://shop.example:22/",
    "https://shop.example:25/",
    "https://shop.example:6379/",
    "https://shop.example:0/",
    "https://shop.example:65536/",
    "https://shop.example:99999/",
    "https://shop.example:8a/",
    "https://shop.example:-1/",
    "https://shop.example/a b",
    "https://shop.example/a\tb",
    "https://shop.example/\r\nX-Evil: 1",
    "https://shop.example/%0d%0aX-Evil:%201",
    "https://shop.example/\0",
    "https://shop.example\n.evil.example/",
    " https://shop.example/",
    "https://sh op.example/",
    "https://<shop>/",
    'https://shop.example/"onload="',
    "https://shop.example/" + "a" * 2048,
    "https://[::1/",
    "https://[shop.example]/",
    "https://{invoice_id}.example/",
]
FORBIDDEN = [*(f"https://{host}/hooks" for host in (*SET_ASIDE, *SPELLED)), *TRICKS]
ALLOWED = [
    "https://shop.example/hooks",
    "https://shop.example",
    "https://SHOP.example/hooks",
    "https://shop.example./hooks",
    "https://shop.example:443/hooks",
    "https://shop.example:8443/hooks",
    "https://shop.example:8080/hooks",
    "https://shop.example:80/hooks",
    "https://a.b.c.d.e.shop.example/hooks",
    "https://xn--r8jz45g.jp/hooks",
    "https://shop-1.example/hooks?a=1&b=2",
    "https://shop.example/hooks?to=a@b.example",
    "https://shop.example/~merchant/hooks;v=1",
    "https://shop.example/%E2%82%AC",
    "https://localhost.example/hooks",
    "https://internal.example/hooks",
    "https://1.1.1.1/hooks",
    "https://8.8.8.8:8443/hooks",
    "https://9.255.255.255/",
    "https://11.0.0.0/",
    "https://100.63.255.255/",
    "https://100.128.0.0/",
    "https://126.255.255.255/",
    "https://128.0.0.1/",
    "https://169.253.255.255/",
    "https://169.255.0.0/",
    "https://172.15.255.255/",
    "https://172.32.0.0/",
    "https://192.167.255.255/",
    "https://192.169.0.0/",
    "https://198.17.255.255/",
    "https://198.20.0.0/",
    "https://223.255.255.255/",
    "https://[2606:4700:4700::1111]/hooks",
    "https://[2a00:1450:4001:80b::200e]/",
    "https://127.0.0.1.example/",
    "https://0x7f.example/",
    "https://shop.example/" + "a" * 2000,
    "https://shop.example/?u=https%3A%2F%2F127.0.0.1%2F",
    "https://sub.shop.example/hooks/payments",
]
BAD_RETURNS = [
    *(trick for trick in TRICKS if trick != "https://shop.example/hooks#fragment"),
    *(f"https://{host}/thanks" for host in ("evil.example", "shop.example.evil.example", "evilshop.example")),
    *(f"https://{host}/thanks" for host in ("shop.example.", "sub.shop.example", "shop.exampl", "shop-example")),
    *(f"https://{host}/thanks" for host in ("xn--shp-9ka.example", "shop.example:444", "www.shop.example", "example")),
    *(f"https://{host}/thanks" for host in ("127.0.0.1", "[::1]", "169.254.169.254", "2130706433", "localhost")),
    *(
        f"{scheme}:alert(1)"
        for scheme in ("JAVASCRIPT", "java\tscript", "vbscript", "data", "blob", "about", "view-source")
    ),
    *(
        f"{scheme}://shop.example/"
        for scheme in ("http", "HTTP", "ws", "wss", "ssh", "intent", "itms", "tel", "mailto")
    ),
    "https://shop.example%2eevil.example/",
    "https://shop.example%00.evil.example/",
    "https://evil.example/shop.example",
    "https://evil.example?shop.example",
    "https://evil.example#shop.example",
    "https://shоp.example/thanks",
    "https://{order_id}/thanks",
    "https://shop.example{order_id}/thanks",
]
GOOD_RETURNS = [
    "https://shop.example/thanks",
    "https://SHOP.example/thanks",
    "https://shop.example:443/thanks",
    "https://shop.example/thanks?order={order_id}&invoice={invoice_id}",
    "https://shop.example/{invoice_id}#{order_id}",
    "https://pay.shop.example:8443/thanks",
]
# What else is wrong with a create, so that it goes no further whatever is thought of its addresses.
REFUSED = {"provider": "generic", "amount": "0", "currency": "EUR"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A world without private networks, whose shoppers return to two hosts."""
    folder: Path = tmp_path_factory.mktemp("closed")
    settings: dict[str, Any] = {"redirect_hosts": "shop.example,pay.shop.example:8443"}
    providers = {"generic": {"base_url": "https://api.example", "api_key": "some-key"}}
    async with open_world(
        f"sqlite:///{folder}/gatehouse.db", allow_private_networks=False, accounts=providers, **settings
    ) as world:
        yield world


async def faults(world: World, **fields: Any) -> list[str]:
    answer = await world.http.post("/v1/invoices", json={**REFUSED, **fields})
    found = is_problem(answer, 422, "invalid_request") if answer.status_code == 422 else answer.json()
    return [fault["pointer"] for fault in found.get("errors", [])] or [str(answer.status_code)]


def test_there_are_enough_of_them() -> None:
    assert len(set(FORBIDDEN)) >= 150
    assert len(set(BAD_RETURNS)) >= 80
    assert len(set(ALLOWED)) >= 40


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_events_are_not_sent_into_private_networks(closed: World, url: str) -> None:
    found = await faults(closed, callback_url=url)
    assert "/callback_url" in found or found == ["400"], found


@pytest.mark.parametrize("url", ALLOWED)
async def test_events_are_sent_to_everybody_elses(closed: World, url: str) -> None:
    assert await faults(closed, callback_url=url) == ["/amount"]


@pytest.mark.parametrize("url", BAD_RETURNS)
async def test_shoppers_return_to_nobody_else(closed: World, url: str) -> None:
    found = await faults(closed, redirect_url=url)
    assert "/redirect_url" in found or found == ["400"], found


@pytest.mark.parametrize("url", GOOD_RETURNS)
async def test_shoppers_return_to_the_shop(closed: World, url: str) -> None:
    assert await faults(closed, redirect_url=url) == ["/amount"]


async def test_everything_that_is_wrong_is_said_at_once(closed: World) -> None:
    found = await faults(closed, redirect_url="https://evil.example/", callback_url="https://127.0.0.1/")
    assert sorted(found) == ["/amount", "/callback_url", "/redirect_url"]


async def test_a_checkouts_return_is_judged_too(tmp_path: Path) -> None:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", redirect_hosts="shop.example") as world:
        invoice = await world.created("bluetape")
        refused = await world.checkout(invoice["id"], redirect_url="https://evil.example/")
        assert is_problem(refused, 422, "invalid_request")["errors"][0]["pointer"] == "/redirect_url"
        assert (await world.checkout(invoice["id"], redirect_url="https://shop.example/")).status_code == 200


CLOSED = Destinations(private=False, callback_ports=frozenset({443}))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "0", "2130706433"])
async def test_what_a_name_becomes_is_judged_before_it_is_connected_to(host: str) -> None:
    """Whatever a name or a spelling leads to: nobody knocks at the listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        port = listener.getsockname()[1]
        async with httpx.AsyncClient(transport=Wire(permits=CLOSED.permits)) as client:
            with pytest.raises(NotSent) as refused:
                await client.get(f"http://{host}:{port}/")
        assert refused.value.why in {"forbidden", "dns"}
        with pytest.raises(TimeoutError):
            listener.accept()


async def test_the_address_that_was_judged_is_the_one_that_is_connected_to() -> None:
    """Each address is asked about once, and nothing is looked up again."""
    asked: list[str] = []

    def permits(address: str) -> bool:
        asked.append(address)
        return True

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with httpx.AsyncClient(transport=Wire(permits=permits)) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{port}/", extensions={"seconds": 0.3})
    assert asked == ["127.0.0.1"]


@pytest.mark.parametrize("address", ["fe80::1%lo", "nonsense", ""])
def test_what_is_no_address_is_not_permitted(address: str) -> None:
    assert not CLOSED.permits(address)


def test_every_public_neighbour_is_permitted() -> None:
    for edge in ("9.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0", "172.15.255.255", "192.169.0.0"):
        assert CLOSED.permits(str(IPv4Address(edge)))
