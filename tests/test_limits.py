"""How often callers may come: by the name of their key, by address, and who is never limited."""

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from time import perf_counter

import httpx
import pytest
from limits.aio.storage import MemoryStorage
from limits.errors import StorageError
from pydantic import SecretStr, ValidationError

from app.api.peers import Peers
from app.api.rate_limiter import Shared
from app.api.rate_limits import headers_of
from app.configured import limits_of
from app.service.buckets import Policy, TokenBuckets
from app.settings import Settings, SettingsError
from tests.callers import SECRETS, bearer, is_problem
from tests.test_notifications import sellapp_letter
from tests.world import SERVICE, World, open_world

pytestmark = pytest.mark.anyio

FIVE = Policy("key", per_second=5, burst=10)
API_KEYS = ",".join(
    [f"the {role}:{role}:{secret}" for role, secret in SECRETS.items()] + ["the read:read:second-read-key-01"]
)
PROXY = "10.0.0.7"
SHEETS = "/v1/providers"


class Ticks:
    """A clock that stands still until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def buckets(most: int = 10_000) -> tuple[TokenBuckets, Ticks]:
    ticks = Ticks()
    return TokenBuckets(FIVE, ticks, most), ticks


def test_a_burst_is_let_in_and_no_more() -> None:
    bucket, _ = buckets()
    told = [bucket.hit("shop") for _ in range(12)]
    assert [one.left for one in told] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert [one.wait > 0 for one in told] == [False] * 10 + [True] * 2
    assert told[-1].wait == pytest.approx(0.2)


def test_what_is_refused_takes_nothing() -> None:
    bucket, ticks = buckets()
    for _ in range(50):
        bucket.hit("shop")
    ticks.now += 0.2
    assert bucket.hit("shop").wait == 0
    assert bucket.hit("shop").wait > 0


def test_in_the_long_run_as_many_are_let_in_as_was_said() -> None:
    bucket, ticks = buckets()
    let_in = 0
    for _ in range(100 * 100):  # a hundred seconds
        ticks.now += 0.01
        let_in += bucket.hit("shop").wait == 0
    assert let_in == 5 * 100 + 10 - 1


def test_names_are_counted_apart() -> None:
    bucket, _ = buckets()
    for _ in range(11):
        bucket.hit("shop")
    assert bucket.hit("other").wait == 0


def test_a_peek_takes_nothing() -> None:
    bucket, _ = buckets()
    assert [bucket.peek("shop").left for _ in range(3)] == [10, 10, 10]


def test_names_are_forgotten_when_their_bucket_is_full_again() -> None:
    bucket, ticks = buckets()
    for number in range(100):
        bucket.hit(str(number))
    ticks.now += 0.3
    bucket.hit("shop")
    assert list(bucket.full_at) == ["shop"]


def test_however_many_names_come_few_are_remembered() -> None:
    bucket, _ = buckets(most=100)
    for number in range(1000):
        bucket.hit(str(number))
    assert list(bucket.full_at) == [str(number) for number in range(900, 1000)]


def test_headers_are_as_the_draft_has_them() -> None:
    bucket, _ = buckets()
    assert headers_of(bucket.hit("shop")) == [
        (b"ratelimit", b'"key";r=9;t=1'),
        (b"ratelimit-policy", b'"key";q=10;w=2'),
    ]


def test_counting_costs_next_to_nothing() -> None:
    bucket = TokenBuckets(Policy("key", per_second=1_000_000, burst=2_000_000))
    fastest = min(seconds_of(bucket, 1000) for _ in range(20))
    assert fastest / 1000 < 5e-6


def seconds_of(bucket: TokenBuckets, times: int) -> float:
    began = perf_counter()
    for _ in range(times):
        bucket.hit("shop")
    return perf_counter() - began


async def test_replicas_that_share_count_together() -> None:
    storage = MemoryStorage()
    replicas = [Shared(storage, buckets()[0]) for _ in range(2)]
    told = [await replicas[number % 2].take("shop") for number in range(12)]
    assert [one.wait > 0 for one in told] == [False] * 10 + [True] * 2
    assert [one.left for one in told][:10] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert 0 < told[-1].wait <= FIVE.seconds
    assert (await replicas[0].take("other")).wait == 0


class Away(MemoryStorage):
    """A storage that can't be reached: it says so, or it never answers."""

    asked = 0
    silent = False

    async def acquire_entry(self, *_entry: object, **_amount: object) -> bool:
        self.asked += 1
        if self.silent:
            await asyncio.sleep(60)
        raise StorageError(ConnectionError())


@pytest.mark.parametrize("silent", [False, True])
async def test_while_what_is_shared_is_away_each_counts_alone(silent: bool) -> None:
    storage, (alone, ticks) = Away(), buckets()
    storage.silent = silent
    shared = Shared(storage, alone)
    told = [await shared.take("shop") for _ in range(11)]
    assert [one.wait > 0 for one in told] == [False] * 10 + [True]
    assert storage.asked == 1, "it is left in peace for a while"
    ticks.now += 2
    await shared.take("shop")
    assert storage.asked == 2


TRUSTED = Peers((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # it is no proxy of ours
        (PROXY, [], PROXY),
        (PROXY, ["198.51.100.1"], "198.51.100.1"),
        (PROXY, ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),  # what is left of it, anybody may have written
        (PROXY, ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, 10.0.0.8"], "198.51.100.1"),
        (PROXY, ["198.51.100.1:4711"], "198.51.100.1"),
        (PROXY, ["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        (PROXY, ["nonsense"], PROXY),
        (PROXY, ["198.51.100.1, nonsense, 10.0.0.8"], "10.0.0.8"),
        (PROXY, ["9" * 30_000], PROXY),
        (PROXY, [""], PROXY),
        ("::ffff:10.0.0.7", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", [], "2001:db8:1:2::/64"),
        ("a name", [], "a name"),
    ],
)
def test_whose_address_a_call_comes_from(peer: str, told: list[str], client: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in told]
    assert TRUSTED.client({"client": (peer, 4711), "headers": headers}) == client


def test_a_socket_without_an_address_is_one_caller() -> None:
    assert TRUSTED.client({"client": None, "headers": []}) == ""


def test_they_can_be_switched_off() -> None:
    assert limits_of(Settings(_env_file=None, rate_limit="off")) is None
    assert limits_of(Settings(_env_file=None)) is not None


@pytest.mark.parametrize(
    "url", ["memcached://:very-secret@h", *([] if find_spec("redis") else ["redis://:very-secret@h"])]
)
def test_what_cannot_be_shared_stops_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="GATEHOUSE_REDIS_URL") as stopped:
        limits_of(Settings(_env_file=None, redis_url=SecretStr(url)))
    assert "very-secret" not in str(stopped.value)


@pytest.mark.parametrize("wrong", ["nonsense", "10.0.0.1/8", "10.0.0.0/8,all"])
def test_a_proxy_is_an_address_or_a_network(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, trusted_proxies=wrong)


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
async def limited(tmp_path: Path, ticks: Ticks) -> AsyncIterator[World]:
    """Five calls a second by each key, ten at once, by a clock that stands still."""
    async with open_world(
        f"sqlite:///{tmp_path}/gatehouse.db", api_keys=API_KEYS, rate_limit=5, trusted_proxies=PROXY
    ) as world:
        limits = world.app.state.limits
        for counted in (limits.callers, limits.visits, limits.failures, limits.refusals):
            counted.clock = ticks
        yield world


def from_(world: World, address: str, **headers: str) -> httpx.AsyncClient:
    """Who calls from this address; one behind our proxy is told by it."""
    transport = httpx.ASGITransport(world.app, client=(PROXY, 1))
    return httpx.AsyncClient(transport=transport, base_url=SERVICE, headers={"X-Forwarded-For": address, **headers})


def is_refused(answer: httpx.Response, policy: str) -> None:
    body = is_problem(answer, 429, "rate_limited")
    assert (body["outcome"], body["retryable"]) == ("none", True)
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit"].startswith(f'"{policy}";r=0;t=')
    assert answer.headers["ratelimit-policy"].startswith(f'"{policy}";q=')


async def test_past_its_rate_a_key_is_refused_at_once(limited: World, ticks: Ticks) -> None:
    answers = [await limited.http.get(SHEETS, headers=bearer("read")) for _ in range(12)]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    is_refused(answers[-1], "key")
    assert answers[0].headers["ratelimit"].startswith('"key";r=9;t=')
    assert answers[0].headers["ratelimit-policy"] == '"key";q=10;w=2'
    assert (await limited.http.get(SHEETS, headers=bearer("write"))).status_code == 200
    ticks.now += 1
    assert (await limited.http.get(SHEETS, headers=bearer("read"))).status_code == 200


async def test_both_secrets_of_a_name_are_counted_as_one(limited: World) -> None:
    for secret in (SECRETS["read"], "second-read-key-01"):
        answers = [await limited.http.get(SHEETS, headers={"Authorization": f"Bearer {secret}"}) for _ in range(11)]
    assert {answer.status_code for answer in answers} == {429}


async def test_a_refused_call_is_judged_no_further(limited: World) -> None:
    for _ in range(11):
        await limited.http.get(SHEETS, headers=bearer("read"))
    headers = {**bearer("read"), "Content-Type": "text/plain"}
    is_refused(await limited.http.post("/v1/invoices", content=b"{", headers=headers), "key")
    before = await limited.requests("generic")
    for _ in range(11):
        answer = await limited.create("generic")
    is_refused(answer, "key")
    assert len(await limited.requests("generic")) == len(before) + 10


async def test_what_a_monitor_asks_is_never_limited(limited: World) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        answers = [await limited.http.get(path, headers=bearer("read")) for _ in range(30)]
        assert {answer.status_code for answer in answers} == {200}
        assert not any("ratelimit" in answer.headers for answer in answers)


@pytest.mark.parametrize("path", [SHEETS, "/metrics", "/v1/invoices/nonsense"])
async def test_who_guesses_keys_is_not_heard_for_a_while(path: str, limited: World, ticks: Ticks) -> None:
    async with from_(limited, "198.51.100.1") as guesser, from_(limited, "198.51.100.2") as other:
        answers = [await guesser.get(path, headers={"Authorization": f"Bearer guess-{n}"}) for n in range(12)]
        assert [answer.status_code for answer in answers[:10]] == [401] * 10
        is_refused(answers[-1], "failures")
        is_refused(await guesser.get(SHEETS), "failures")
        is_refused(await guesser.post("/v1/invoices", headers={"Authorization": "Bearer guess"}, json={}), "failures")
        assert (await guesser.get("/livez")).status_code == 200
        assert (await other.get(SHEETS)).status_code == 401
        ticks.now += 11
        assert (await guesser.get(SHEETS)).status_code == 401


async def guessed_too_often(guesser: httpx.AsyncClient) -> None:
    for _ in range(11):
        answer = await guesser.get(SHEETS)
    is_refused(answer, "failures")


@pytest.mark.parametrize("role", SECRETS)
async def test_a_right_key_is_heard_whatever_else_came_from_its_address(role: str, limited: World) -> None:
    async with from_(limited, "198.51.100.1") as shared:
        await guessed_too_often(shared)
        for path in (SHEETS, "/metrics"):
            assert (await shared.get(path, headers=bearer(role))).status_code == 200
        is_refused(await shared.get(SHEETS, headers={"Authorization": f"Basic {SECRETS[role]}"}), "failures")


async def test_a_right_key_takes_back_no_wrong_guess(limited: World) -> None:
    async with from_(limited, "198.51.100.1") as shared:
        for _ in range(10):
            await shared.get(SHEETS)
            await shared.get("/v1/deliveries", headers=bearer("read"))
        is_refused(await shared.get(SHEETS), "failures")


async def test_signing_in_as_an_operator_is_guessed_no_faster(limited: World) -> None:
    async with from_(limited, "198.51.100.1") as guesser:
        await guessed_too_often(guesser)
        for headers in ({}, bearer("read"), bearer("admin")):
            is_refused(await guesser.post("/ops/session", data={"key": SECRETS["admin"]}, headers=headers), "failures")


async def test_a_forbidden_call_is_no_guess(limited: World, ticks: Ticks) -> None:
    limited.http.headers.update(bearer("read"))
    for _ in range(20):
        answer = await limited.create("generic")
        ticks.now += 0.2
        is_problem(answer, 403, "forbidden")


async def test_visits_to_pay_are_limited_by_address(limited: World) -> None:
    secret = (await limited.created("generic"))["client_secret"]
    async with from_(limited, "2001:db8:1:2::1") as shopper, from_(limited, "2001:db8:1:2::2") as neighbour:
        pages = [await shopper.head(f"/pay/{secret}") for _ in range(20)]
        pages += [await neighbour.head("/pay/nonsense") for _ in range(25)]
        assert [page.status_code for page in pages[:40]] == [200] * 20 + [401] * 20
        refused = await shopper.get(f"/pay/{secret}")
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "text/html; charset=utf-8"
        assert refused.headers["cache-control"] == "no-store"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["ratelimit-policy"] == '"address";q=40;w=2'
    async with from_(limited, "2001:db8:1:3::1") as stranger:
        assert (await stranger.head(f"/pay/{secret}")).status_code == 200


async def test_client_secrets_are_limited_by_address_and_not_by_key(limited: World) -> None:
    made = await limited.created("generic")
    path, secret = f"/v1/invoices/{made['id']}", f"Bearer {made['client_secret']}"
    async with from_(limited, "198.51.100.1", Authorization=secret) as shopper:
        answers = [await shopper.get(path) for _ in range(45)]
        assert [answer.status_code for answer in answers[:40]] == [200] * 40
        is_refused(answers[-1], "address")
    async with from_(limited, "198.51.100.2", Authorization=secret) as shopper:
        assert (await shopper.get(path)).status_code == 200


async def test_only_forged_notifications_are_limited(limited: World) -> None:
    made = await limited.created("sellapp")
    told = sellapp_letter(made)
    async with from_(limited, "198.51.100.1") as provider:
        for _ in range(30):
            assert (await provider.post(told.path, content=told.body, headers=told.headers)).status_code == 200
        forged: list[httpx.Response] = []
        for path in ("/webhooks/sellapp", "/webhooks/nobody", f"/webhooks/generic/{made['id']}?token=nonsense"):
            forged += [await provider.post(path, content=told.body) for _ in range(4)]
        assert [answer.status_code for answer in forged[:10]] == [401] * 4 + [404] * 4 + [401] * 2
        is_refused(forged[-1], "failures")
        assert (await provider.post(told.path, content=told.body, headers=told.headers)).status_code == 200
        assert (await provider.get(SHEETS, headers=bearer("read"))).status_code == 200


async def test_nobody_hides_behind_a_header_that_they_wrote_themselves(limited: World) -> None:
    transport = httpx.ASGITransport(limited.app, client=("203.0.113.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url=SERVICE) as guesser:
        answers = [await guesser.get(SHEETS, headers={"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(11)]
    is_refused(answers[-1], "failures")
