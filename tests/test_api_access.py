"""Who may do what: no key, the wrong key, the right key; and which fault is told first."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from pydantic import SecretStr

from app.api.deps import Asks
from app.api.schemas import Nothing
from app.service.keys import Caller, Keys, Role
from tests.callers import ROLES, SECRETS, bare, bearer, behind_doors, is_problem, knocking, pointers, world_of_roles
from tests.world import ORDERS, World

pytestmark = pytest.mark.anyio

UNKNOWN_ID = "inv_01h455vb4pex5vsknk084sn02q"
OPEN_TO_ALL = {
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/problems/{code}"),
    ("get", "/pay/{client_secret}"),
    ("post", "/webhooks/{provider}"),
    ("post", "/webhooks/{provider}/{invoice_id}"),
}
# What proves itself in another way than by a key, and here doesn't.
PROVEN = {"/pay/{client_secret}", "/webhooks/{provider}", "/webhooks/{provider}/{invoice_id}"}
PROVIDER, ORDER = next(iter(ORDERS.items()))
GOOD = {"provider": PROVIDER, **ORDER}
WITHOUT_CANCEL = "turinpay"
BECAUSE = {"reason": "seen there"}
BODIES = {
    "/v1/invoices": GOOD,
    "/v1/invoices/{id}/resolve": {**BECAUSE, "not_created": True},
    "/v1/providers/{name}/pause": BECAUSE,
    "/v1/providers/{name}/resume": BECAUSE,
}


def operations() -> Iterator[tuple[str, str, str | None]]:
    """Each operation with the role it takes, as the OpenAPI says."""
    for path, methods in behind_doors(bare()).openapi()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation["security"][0]["apiKey"][0] if "security" in operation else None


OPERATIONS = list(operations())
BY_KEY = [(method, path, role) for method, path, role in OPERATIONS if role]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_of_roles(Path(tmp_path_factory.mktemp("access"))) as world:
        yield world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with knocking(world.app) as client:
        yield client


async def call(client: httpx.AsyncClient, method: str, path: str, id: str = UNKNOWN_ID, **more: Any) -> httpx.Response:
    """A call that is right in everything but its id."""
    body = BODIES.get(path, {})
    names = {"name": "nobody", "code": "forbidden", "provider": "sellapp", "client_secret": "nonsense"}
    there = path.format(id=id, invoice_id=UNKNOWN_ID, **names)
    return await client.request(method, there, json=body if method == "post" else None, **more)


def test_only_these_are_open_to_all() -> None:
    assert {(method, path) for method, path, role in OPERATIONS if role is None} == OPEN_TO_ALL
    assert BY_KEY


@pytest.mark.parametrize(("method", "path", "role"), BY_KEY)
async def test_without_a_key_nobody_comes_in(method: str, path: str, role: str, client: httpx.AsyncClient) -> None:
    answer = await call(client, method, path)
    is_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key_role", ROLES)
@pytest.mark.parametrize(("method", "path", "role"), BY_KEY)
async def test_a_key_opens_what_its_role_may_do(
    method: str, path: str, role: str, key_role: str, client: httpx.AsyncClient
) -> None:
    answer = await call(client, method, path, headers=bearer(key_role))
    if ROLES.index(key_role) < ROLES.index(role):
        is_problem(answer, 403, "forbidden")
    else:
        assert answer.status_code in {200, 201, 404}, answer.text


# What a shopper may do to the invoice of its client secret.
SHOPPERS = {("get", "/v1/invoices/{id}"), ("post", "/v1/invoices/{id}/checkout")}
CALLERS = [*ROLES, "nobody", "a guesser", "the shopper", "another shopper", "a forger"]


@pytest.fixture(scope="module")
async def callers(world: World) -> dict[str, dict[str, str]]:
    """What each of them sends; the invoice that is asked for is the shopper's."""
    mine, other = await world.created(WITHOUT_CANCEL), await world.created(WITHOUT_CANCEL)
    forged = f"{mine['id']}.{other['client_secret'].partition('.')[2]}"
    secrets = {
        **SECRETS,
        "a guesser": f"{SECRETS['admin']}x",
        "the shopper": mine["client_secret"],
        "another shopper": other["client_secret"],
        "a forger": forged,
    }
    sent = {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    return {**sent, "nobody": {}, "asked for": {"id": mine["id"]}}


def comes_in(who: str, method: str, path: str, role: str) -> set[int]:
    """What is answered where nothing but the caller is at fault; an empty set is any answer to one who may."""
    if who in {"nobody", "a guesser", "a forger"}:
        return {401}
    if who in ROLES:
        return {403} if ROLES.index(who) < ROLES.index(role) else set()
    if (method, path) not in SHOPPERS:
        return {403}
    return {200} if who == "the shopper" else {404}


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize(("method", "path", "role"), BY_KEY)
async def test_every_operation_knows_its_callers(
    method: str, path: str, role: str, who: str, callers: dict[str, dict[str, str]], client: httpx.AsyncClient
) -> None:
    answer = await call(client, method, path, callers["asked for"]["id"], headers=callers[who])
    expected = comes_in(who, method, path, role)
    assert answer.status_code in expected if expected else answer.status_code not in {401, 403}, answer.text
    assert answer.status_code < 500


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize(("method", "path"), sorted(OPEN_TO_ALL))
async def test_what_is_open_is_open_to_each_alike(
    method: str, path: str, who: str, callers: dict[str, dict[str, str]], client: httpx.AsyncClient
) -> None:
    answer = await call(client, method, path, headers=callers[who])
    assert answer.status_code == (401 if path in PROVEN else 200)


@pytest.mark.parametrize(("method", "path"), sorted(OPEN_TO_ALL))
async def test_what_is_open_asks_for_no_key(method: str, path: str, client: httpx.AsyncClient) -> None:
    answer = await call(client, method, path)
    assert answer.status_code == (401 if path in PROVEN else 200)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {SECRETS['admin']}x",
        f"Bearer {SECRETS['admin'].upper()}",
        f"Basic {SECRETS['admin']}",
        f"Token {SECRETS['admin']}",
        SECRETS["admin"],
        f"Bearer{SECRETS['admin']}",
        f"Bearer {SECRETS['admin']} {SECRETS['admin']}",
        "Bearer \xe4\xf6",
    ],
)
async def test_a_wrong_key_is_no_key(authorization: str, client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/providers", headers={b"Authorization": authorization.encode("latin-1")})
    is_problem(answer, 401, "unauthenticated")


async def test_the_scheme_may_be_written_in_any_case(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/providers", headers={"Authorization": f"bEARER {SECRETS['read']}"})
    assert answer.status_code == 200


async def test_a_read_may_be_kept_for_a_higher_role() -> None:
    app, kept = bare(), Asks(Role.ADMIN, Nothing)

    @app.get("/kept")
    async def secret(_query: Annotated[Nothing, kept.required]) -> None: ...

    async with knocking(behind_doors(app)) as client:
        assert (await client.get("/kept", headers=bearer("admin"))).status_code == 200
        is_problem(await client.get("/kept", headers=bearer("write")), 403, "forbidden")


def test_a_key_may_have_a_twin_while_it_is_rotated() -> None:
    shop = Caller(name="shop", role=Role.WRITE)
    keys = Keys((SecretStr(secret), shop) for secret in ("first-key", "second-key"))
    assert [keys.find("first-key"), keys.find("second-key"), keys.find("third-key")] == [shop, shop, None]
    assert "first-key" not in repr(vars(keys))


TOO_LARGE = b"x" * (256 * 1024 + 1)
NOT_JSON = {"Content-Type": "text/plain"}
AS_JSON = {"Content-Type": "application/json"}
CREATE = "/v1/invoices"
CANCEL = f"/v1/invoices/{UNKNOWN_ID}/cancel"

# Each has what is told first, and everything wrong that comes after it in the promised order.
FIRST = {
    "the route": ("DELETE", "/v1/nothing", TOO_LARGE, NOT_JSON, 404, "not_found"),
    "the method": ("DELETE", CREATE, TOO_LARGE, NOT_JSON, 405, "method_not_allowed"),
    "the size": ("POST", CREATE, TOO_LARGE, NOT_JSON, 413, "payload_too_large"),
    "the key": ("POST", CREATE, b"{", NOT_JSON, 401, "unauthenticated"),
    "the media type": ("POST", CREATE, b"{", {**NOT_JSON, **bearer("read")}, 415, "unsupported_media_type"),
    "strict JSON": ("POST", CREATE, b"{", {**AS_JSON, **bearer("read")}, 400, "invalid_request"),
    "the body": ("POST", CANCEL, b'{"a": 1}', {**AS_JSON, **bearer("read")}, 422, "invalid_request"),
    "the body, as the provider sees it": ("POST", CREATE, b"{}", {**AS_JSON, **bearer("read")}, 422, "invalid_request"),
    "the query": ("POST", f"{CANCEL}?a=1", b"{}", {**AS_JSON, **bearer("read")}, 422, "invalid_request"),
    "the role": ("POST", CANCEL, b"{}", {**AS_JSON, **bearer("read")}, 403, "forbidden"),
    "the state": ("POST", CANCEL, b"{}", {**AS_JSON, **bearer("write")}, 404, "not_found"),
}


@pytest.mark.parametrize("name", FIRST)
async def test_a_request_is_judged_in_the_promised_order(name: str, client: httpx.AsyncClient) -> None:
    method, path, content, headers, status, code = FIRST[name]
    is_problem(await client.request(method, path, content=content, headers=headers), status, code)


async def test_a_read_is_judged_by_key_then_role_then_query(client: httpx.AsyncClient) -> None:
    wrong = f"/v1/invoices/{UNKNOWN_ID}?refresh=maybe"
    is_problem(await client.get(wrong), 401, "unauthenticated")
    is_problem(await client.get(wrong, headers=bearer("read")), 422, "invalid_request")
    admins = f"/v1/invoices/{UNKNOWN_ID}?include=provider_data"
    is_problem(await client.get(admins, headers=bearer("write")), 403, "forbidden")
    is_problem(await client.get(admins, headers=bearer("admin")), 404, "not_found")


@pytest.mark.parametrize("role", ["read", "write"])
async def test_what_the_provider_misses_is_named_along_with_the_rest(role: str, client: httpx.AsyncClient) -> None:
    sent = {"provider": "sellapp", "order_id": 1, "items": [{}, {"variant_id": "1001"}], "provider_options": {"a": 1}}
    body = is_problem(await client.post(CREATE, json=sent, headers=bearer(role)), 422, "invalid_request")
    assert pointers(body) == ["/customer/email", "/items/0/variant_id", "/order_id", "/provider_options/a"]


async def test_what_follows_from_a_fault_is_not_named_again(client: httpx.AsyncClient) -> None:
    sent = {"provider": "turinpay", "amount": "1.234", "currency": "EUR"}
    body = is_problem(await client.post(CREATE, json=sent, headers=bearer("write")), 422, "invalid_request")
    assert pointers(body) == ["/amount"]


async def test_an_unknown_provider_is_a_fault(client: httpx.AsyncClient) -> None:
    for sent in ({"provider": "nobody"}, {}):
        body = is_problem(await client.post(CREATE, json=sent, headers=bearer("write")), 422, "invalid_request")
        assert pointers(body) == ["/provider"]


@pytest.mark.parametrize("provider", ORDERS)
async def test_nothing_wrong_reaches_a_provider(provider: str, world: World) -> None:
    before = await world.requests(provider)
    for wrong in ({"a": 1}, {"amount": 1}, {"items": [{"quantity": 0}]}, {"provider_options": {"a": 1}}):
        is_problem(await world.create(provider, **wrong), 422, "invalid_request")
    assert await world.requests(provider) == before
