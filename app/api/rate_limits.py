"""Who is limited by what, and how it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Self

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.admission import ALWAYS
from app.api.peers import Network, Peers
from app.api.problems import problem
from app.api.rate_limiter import RateLimiter
from app.service.buckets import Policy, Standing, TokenBuckets
from app.service.keys import Caller, Keys, bearer

VISITS = Policy("address", per_second=20, burst=40)
FAILURES = Policy("failures", per_second=1, burst=10)

# Where a key is asked for, and a 401 is a wrong guess.
API = "/v1/"
METRICS = "/metrics"
SIGN_IN = "/ops/session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`callers` are counted by the name of their key; all else by address, and `refusals` are of notifications."""

    callers: RateLimiter
    visits: TokenBuckets
    failures: TokenBuckets
    refusals: TokenBuckets
    peers: Peers

    @classmethod
    def of(
        cls, callers: RateLimiter, trusted: tuple[Network, ...] = (), clock: Callable[[], float] = monotonic
    ) -> Self:
        return cls(
            callers=callers,
            visits=TokenBuckets(VISITS, clock),
            failures=TokenBuckets(FAILURES, clock),
            refusals=TokenBuckets(FAILURES, clock),
            peers=Peers(trusted),
        )


class Limited:
    """Pure ASGI: who guessed too often is not heard for a while, and every answer tells what its caller has left.

    Others may share the guesser's address: whoever shows a key that is right is heard.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        failures, state = self.limits.failures, scope.setdefault("state", {})
        guesser = self.limits.peers.client(scope) if takes_a_key(scope["path"]) else None

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                if guesser is not None and message["status"] == 401:
                    state["standing"] = failures.hit(guesser)
                if standing := state.get("standing"):
                    message["headers"] = [*message["headers"], *headers_of(standing)]
            await send(message)

        if guesser is not None and (standing := failures.peek(guesser)).wait and not shows_a_key(scope):
            state["standing"] = standing
            await problem(Request(scope), standing.refusal)(scope, receive, telling)
        else:
            await self.app(scope, receive, telling)


def headers_of(standing: Standing) -> list[tuple[bytes, bytes]]:
    """As draft-ietf-httpapi-ratelimit-headers-10 writes them."""
    policy, name = standing.policy, standing.policy.name.encode()
    return [
        (b"ratelimit", b'"%b";r=%d;t=%d' % (name, standing.left, ceil(standing.full))),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, policy.burst, policy.seconds)),
    ]


def takes_a_key(path: str) -> bool:
    return path.startswith(API) or path in {METRICS, SIGN_IN}


def shows_a_key(scope: Scope) -> bool:
    """Whether it is one of ours; to sign in as an operator takes another proof."""
    if scope["path"] == SIGN_IN:
        return False
    request = Request(scope)
    keys: Keys = request.app.state.keys
    secret = bearer(request.headers.get("authorization", ""))
    return secret is not None and keys.find(secret) is not None


async def count(request: Request, caller: Caller) -> None:
    """One more call with this key, or by a shopper from this address; RateLimited."""
    limits: Limits | None = request.app.state.limits
    if limits is None or request.scope["path"] in ALWAYS:
        return
    if caller.invoice_id is None:
        heed(request, await limits.callers.take(caller.name))
    else:
        heed(request, limits.visits.hit(limits.peers.client(request.scope)))


def visit(request: Request) -> None:
    """One more shopper from this address; RateLimited."""
    limits: Limits | None = request.app.state.limits
    if limits:
        heed(request, limits.visits.hit(limits.peers.client(request.scope)))


def refuse(request: Request) -> None:
    """One more notification from this address that proves nothing; RateLimited."""
    limits: Limits | None = request.app.state.limits
    if limits:
        heed(request, limits.refusals.hit(limits.peers.client(request.scope)))


def heed(request: Request, standing: Standing) -> None:
    request.scope["state"]["standing"] = standing
    if standing.wait:
        raise standing.refusal
