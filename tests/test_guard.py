"""What a name becomes is judged before it is connected to, and what the operator sets before anything is served."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.configured import accounts
from app.service.destinations import ODD, PRIVATE, Destinations
from app.settings import Settings, SettingsError, load
from app.wire import Wire
from tests.callers import is_problem
from tests.receiver import receiving
from tests.wire_peer import Found, Names
from tests.world import World, open_world

pytestmark = pytest.mark.anyio

CLOSED = Destinations(private=False, callback_ports=frozenset({443}))
PUBLIC = "9.255.255.255"
# What else is wrong with a create, so that it goes no further whatever is thought of its addresses.
REFUSED = {"provider": "generic", "amount": "0", "currency": "EUR"}
FAR_AWAY = {"generic": {"base_url": "https://api.example", "api_key": "some-key"}}


class Loop(Names):
    """Its names lead where a test says: each look-up takes the next of a name's answers, and the last one for ever."""

    def __init__(self) -> None:
        super().__init__(self.next_answer)
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def next_answer(self, host: str, *how: Any) -> Found:
        self.asked.append(host)
        answers = self.answers.get(host, [[host]])
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [each for address in addresses for each in socket.getaddrinfo(address, *how)]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": Loop}


@pytest.fixture
async def names() -> dict[str, list[list[str]]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    loop.answers.clear()
    loop.asked.clear()
    return loop.answers


@pytest.fixture
def doors() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two listeners on one port: at 127.0.0.1 and at 127.0.0.2."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.2", one.getsockname()[1])) as other,
    ):
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(f"sqlite:///{tmp_path_factory.mktemp('opened')}/gatehouse.db") as world:
        yield world


@pytest.fixture(scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(
        f"sqlite:///{tmp_path_factory.mktemp('closed')}/gatehouse.db",
        accounts=FAR_AWAY,
        allow_private_networks=False,
        redirect_hosts="shop.example:443,pay.shop.example",
    ) as world:
        yield world


def knocks(door: socket.socket) -> int:
    """How many have connected."""
    count = 0
    while True:
        try:
            door.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


async def called(wire: Wire, url: str) -> str:
    """Why nothing came of it."""
    async with httpx.AsyncClient(transport=wire) as client:
        with pytest.raises(httpx.TransportError) as failed:
            await client.get(url, extensions={"seconds": 1.0})
    return str(failed.value)


async def faults(world: World, **fields: Any) -> dict[str, str]:
    answer = await world.http.post("/v1/invoices", json={**REFUSED, **fields})
    return {fault["pointer"]: fault["message"] for fault in is_problem(answer, 422, "invalid_request")["errors"]}


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["127.255.255.254"],
        ["0.0.0.0"],
        ["10.0.0.1"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["168.63.129.16"],
        ["172.16.0.1"],
        ["192.168.0.1"],
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["::"],
        ["::1"],
        ["::127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fc00::1"],
        ["fe80::1"],
        ["fec0::1"],
        ["fd00:ec2::254"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "::1"],
        ["2606:4700:4700::1111", "10.0.0.1"],
        [PUBLIC, PUBLIC, "::ffff:169.254.169.254"],
    ],
    ids=" ".join,
)
async def test_a_name_that_leads_astray_is_not_connected_to(names: dict[str, Any], addresses: list[str]) -> None:
    names["shop.example"] = [addresses]
    assert await called(Wire(permits=CLOSED.permits), "http://shop.example/") == "forbidden"


@pytest.mark.parametrize("addresses", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]], ids=" ".join)
async def test_none_of_its_addresses_is_connected_to_where_one_is_forbidden(
    names: dict[str, Any], doors: tuple[socket.socket, socket.socket], addresses: list[str]
) -> None:
    names["shop.example"] = [addresses]
    url = f"http://shop.example:{doors[0].getsockname()[1]}/"
    assert await called(Wire(permits=lambda address: address != "127.0.0.2"), url) == "forbidden"
    assert [knocks(door) for door in doors] == [0, 0]


async def test_a_name_that_changes_meanwhile_leads_nowhere_else(
    names: dict[str, Any], doors: tuple[socket.socket, socket.socket]
) -> None:
    """It is looked up once for each connection, which is made to what was judged; and judged anew for the next."""
    names["shop.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    url, wire = f"http://shop.example:{doors[0].getsockname()[1]}/", Wire(permits=lambda found: found == "127.0.0.1")
    assert await called(wire, url) == "timeout"
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    assert (loop.asked, [knocks(door) for door in doors]) == (["shop.example"], [1, 0])
    assert await called(Wire(permits=lambda found: found == "127.0.0.1"), url) == "forbidden"
    assert [knocks(door) for door in doors] == [0, 0]


async def test_a_provider_whose_name_leads_astray_is_unavailable(
    tmp_path: Path, names: dict[str, Any], doors: tuple[socket.socket, socket.socket]
) -> None:
    names["api.example"] = [["127.0.0.1"]]
    account = {"base_url": f"http://api.example:{doors[0].getsockname()[1]}", "api_key": "some-key"}
    async with open_world(
        f"sqlite:///{tmp_path}/gatehouse.db", accounts={"generic": account}, allow_private_networks=False
    ) as world:
        problem = is_problem(await world.create("generic"), 503, "provider_unavailable")
    assert "(forbidden)" in problem["detail"]
    assert knocks(doors[0]) == 0


@pytest.mark.parametrize("private", [True, False])
async def test_events_are_sent_into_private_networks_only_while_those_are_open(
    tmp_path: Path, names: dict[str, Any], private: bool
) -> None:
    """The address was given while they were."""
    names["shop.example"] = [["127.0.0.1"]]
    database = f"sqlite:///{tmp_path}/gatehouse.db"
    async with receiving() as receiver:
        async with open_world(database) as world:
            await world.created("generic", callback_url=receiver.url.replace("127.0.0.1", "shop.example"))
        async with open_world(database, accounts=FAR_AWAY, allow_private_networks=private, worker=True) as world:
            attempt = await first_attempt(world)
        assert attempt["error"] == (None if private else "forbidden")
        assert len(receiver.attempts) + receiver.unsigned == int(private)


async def first_attempt(world: World) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            [delivery] = (await world.http.get("/v1/deliveries")).json()["data"]
            if delivery["attempts"]:
                attempt: dict[str, Any] = delivery["attempts"][0]
                return attempt
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "host",
    [
        "metadata",
        "metadata.",
        "METADATA.GOOG",
        "metadata.google.internal",
        "instance-data",
        "instance-data.ec2.internal",
        "kubernetes",
        "redis",
        "ip6-localhost",
        "168.63.129.16",
        "[::ffff:168.63.129.16]",
        "[64:ff9b::a83f:8110]",
    ],
)
async def test_what_a_network_calls_its_own_is_private(closed: World, host: str) -> None:
    assert (await faults(closed, callback_url=f"https://{host}/"))["/callback_url"] == PRIVATE


ODD_HOSTS = ["xn--a", "xn--a.example", "xn--.example", "xn--zz999999999.example"]


@pytest.mark.parametrize(
    "host", [*ODD_HOSTS, "a..example", "-a.example", f"{'a' * 64}.example", ".".join(["a" * 60] * 5)]
)
async def test_events_are_not_promised_to_a_host_that_nobody_can_have(closed: World, host: str) -> None:
    assert (await faults(closed, callback_url=f"https://{host}/"))["/callback_url"] == ODD


@pytest.mark.parametrize("host", ODD_HOSTS)
async def test_nor_where_private_networks_are_open(opened: World, host: str) -> None:
    assert (await faults(opened, callback_url=f"https://{host}/"))["/callback_url"] == ODD


@pytest.mark.parametrize("host", ["168.63.129.15", "168.63.129.17", "metadata.example", "metadata.goog.example"])
async def test_their_neighbours_are_everybodys(closed: World, host: str) -> None:
    assert list(await faults(closed, callback_url=f"https://{host}/")) == ["/amount"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/hooks", "https://10.0.0.1:22/", "http://redis:6379/", "http://[::1]/"]
)
async def test_private_networks_are_opened_with_their_ports_and_plain_http(opened: World, url: str) -> None:
    assert list(await faults(opened, callback_url=url, redirect_url=url)) == ["/amount"]


@pytest.mark.parametrize("host", ["shop.example", "shop.example:443", "SHOP.example", "pay.shop.example:443"])
async def test_the_usual_port_may_be_left_out_or_written(closed: World, host: str) -> None:
    assert list(await faults(closed, redirect_url=f"https://{host}/")) == ["/amount"]


@pytest.mark.parametrize("host", ["shop.example:8443", "pay.shop.example:80", "shop.example:4430"])
async def test_another_port_is_another_host(closed: World, host: str) -> None:
    assert sorted(await faults(closed, redirect_url=f"https://{host}/")) == ["/amount", "/redirect_url"]


BASE_URLS = [
    "http://127.0.0.1:9/x",
    "http://2130706433",
    "http://[::ffff:7f00:1]",
    "https://10.1.2.3",
    "http://redis:1",
]
WEBHOOK_URLS = [
    *(url.replace("http:", "https:") for url in BASE_URLS),
    "http://shop.example",
    "https://shop.example:22",
]
NEVER = ["https://user:pass@shop.example", "https://shop.example/#there"]


@pytest.mark.parametrize("url", BASE_URLS)
def test_a_providers_private_address_stops_the_start(url: str) -> None:
    provider = {"generic": {**FAR_AWAY["generic"], "base_url": url}}
    with pytest.raises(SettingsError) as stopped:
        accounts(Settings(_env_file=None), provider)
    assert stopped.value.faults[0] == f"GATEHOUSE_PROVIDERS__GENERIC__BASE_URL {PRIVATE}"
    assert accounts(Settings(_env_file=None, allow_private_networks=True), provider)


@pytest.mark.parametrize("url", [*WEBHOOK_URLS, *NEVER])
def test_a_receiver_that_no_caller_could_name_stops_the_start(url: str) -> None:
    settings: dict[str, Any] = {"webhook_url": url}
    with pytest.raises(SettingsError) as stopped:
        accounts(Settings(_env_file=None, **settings), FAR_AWAY)
    assert stopped.value.faults[0].startswith("GATEHOUSE_WEBHOOK_URL must ")
    assert url.partition("://")[2] not in str(stopped.value)


@pytest.mark.parametrize("url", WEBHOOK_URLS)
def test_it_may_be_private_where_private_networks_are_open(url: str) -> None:
    settings: dict[str, Any] = {"webhook_url": url, "allow_private_networks": True}
    assert accounts(Settings(_env_file=None, **settings), FAR_AWAY)


@pytest.mark.parametrize("url", NEVER)
def test_but_has_no_user_name_and_no_fragment_even_there(url: str) -> None:
    settings: dict[str, Any] = {"webhook_url": url, "allow_private_networks": True}
    with pytest.raises(SettingsError, match="GATEHOUSE_WEBHOOK_URL must have no "):
        accounts(Settings(_env_file=None, **settings), FAR_AWAY)


@pytest.mark.parametrize(
    "hosts", ["https://shop.example", "*.shop.example", "shop.example/thanks", "a@shop.example", "ß.example"]
)
def test_a_host_that_nobody_could_return_to_stops_the_start(tmp_path: Path, hosts: str) -> None:
    (tmp_path / ".env").write_text(f"GATEHOUSE_REDIRECT_HOSTS=pay.example,{hosts}\n")
    with pytest.raises(SettingsError) as stopped:
        load(tmp_path / ".env", tmp_path / "secrets")
    assert stopped.value.faults == ["GATEHOUSE_REDIRECT_HOSTS must be hosts such as example.org or example.org:8443"]


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEHOUSE_RATE_LIMTI=5\nGATEHOUSE_SETTLE=-1\n")
    with pytest.raises(SettingsError) as stopped:
        load(tmp_path / ".env", tmp_path / "secrets")
    assert [fault.partition(" ")[0] for fault in stopped.value.faults] == ["GATEHOUSE_RATE_LIMTI", "GATEHOUSE_SETTLE"]
