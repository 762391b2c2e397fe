"""How a failure on the wire is named decides whether it is safe to ask again."""

import socket
from typing import Any

import pytest

from app.domain.errors import (
    AlreadyExists,
    Faulty,
    Misconfigured,
    OutcomeUnknown,
    ProviderError,
    ProviderNotFound,
    Rejected,
    Throttled,
    TimedOut,
    Unavailable,
    Unreadable,
)
from app.exchange import Exchange, seconds_of
from app.lane import FAILURES_IN_A_ROW
from app.provider import Flow, Provider
from tests.peer import Peer

pytestmark = pytest.mark.anyio


class Acme(Provider):
    """A provider that exists in this file only."""

    create_recovery = "by_reference"

    def write(self) -> Flow[Any]:
        answer = yield self.call("POST", "/pay", json={"amount": "1"})
        return answer.read(dict[str, str])["id"]

    def look(self) -> Flow[Any]:
        answer = yield self.call("GET", "/pay/{}", "a/b", query={"x": "1&2"})
        return answer.read(dict[str, str])["id"]

    def write_then_look(self) -> Flow[Any]:
        yield self.call("POST", "/pay", json={})
        answer = yield self.call("GET", "/pay/{}", "1")
        return answer.status

    def look_and_accept_absence(self) -> Flow[Any]:
        answer = yield self.call("GET", "/pay/{}", "1", accepts={404})
        return answer.status

    def never_ending(self) -> Flow[Any]:
        while True:
            yield self.call("GET", "/pay/{}", "1")


def acme(url: str) -> Acme:
    return Acme.model_validate({"name": "acme", "base_url": url, "timeout": 0.4})


async def failure(exchange: Exchange, provider: Acme, flow: Flow[Any], operation: str = "create") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await exchange.run(provider, operation, flow)
    return caught.value


async def test_an_answer_is_handed_back_and_the_address_is_quoted(exchange: Exchange, peer: Peer) -> None:
    peer.answers(200, b'{"id": "p1"}')
    provider = acme(peer.url + "/base/")
    assert await exchange.run(provider, "get", provider.look()) == "p1"
    assert peer.seen == [("GET /base/pay/a%2Fb?x=1%262 HTTP/1.1", b"")]


@pytest.mark.parametrize(
    ("status", "on_write", "on_read"),
    [
        (301, OutcomeUnknown, Unreadable),
        (400, Rejected, Rejected),
        (401, Misconfigured, Misconfigured),
        (403, Misconfigured, Misconfigured),
        (404, Rejected, ProviderNotFound),
        (408, OutcomeUnknown, TimedOut),
        (409, AlreadyExists, Rejected),
        (422, Rejected, Rejected),
        (429, Throttled, Throttled),
        (500, OutcomeUnknown, Faulty),
        (502, OutcomeUnknown, Faulty),
        (503, OutcomeUnknown, Faulty),
    ],
)
async def test_each_status_has_one_meaning(
    exchange: Exchange, peer: Peer, status: int, on_write: type[ProviderError], on_read: type[ProviderError]
) -> None:
    provider = acme(peer.url)
    peer.answers(status)
    assert type(await failure(exchange, provider, provider.write())) is on_write
    peer.answers(status)
    peer.answers(status)
    error = await failure(exchange, provider, provider.look(), "get")
    assert type(error) is on_read
    assert error.complaint.http_status == status


async def test_a_conflict_names_an_invoice_that_is_there_only_where_one_was_to_be_created(
    exchange: Exchange, peer: Peer
) -> None:
    provider = acme(peer.url)
    peer.answers(409)
    assert type(await failure(exchange, provider, provider.write(), "cancel")) is Rejected
    peer.answers(409)
    assert type(await failure(exchange, provider, provider.look(), "create")) is AlreadyExists


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"id"', b"\xff", b'{"id": 5}', b"[" * 100_000])
async def test_an_answer_that_makes_no_sense_is_doubtful_after_a_write(
    exchange: Exchange, peer: Peer, body: bytes
) -> None:
    provider = acme(peer.url)
    peer.answers(201, body)
    assert type(await failure(exchange, provider, provider.write())) is OutcomeUnknown
    peer.answers(200, body)
    assert type(await failure(exchange, provider, provider.look(), "get")) is Unreadable


async def test_nothing_was_sent_where_nobody_listens(exchange: Exchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    provider = acme(url)
    error = await failure(exchange, provider, provider.write())
    assert type(error) is Unavailable
    assert error.retry_after


async def test_a_write_without_an_answer_is_never_sent_again(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    peer.hangs_up()
    peer.stays_silent()
    for _ in range(2):
        assert type(await failure(exchange, provider, provider.write())) is OutcomeUnknown
    assert len(peer.seen) == 2


async def test_a_read_is_tried_once_more_when_the_line_broke(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    peer.hangs_up()
    peer.answers(200, b'{"id": "p1"}')
    assert await exchange.run(provider, "get", provider.look()) == "p1"
    assert len(peer.seen) == 2


async def test_a_silent_read_is_timed_out_within_the_deadline(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    peer.stays_silent()
    assert type(await failure(exchange, provider, provider.look(), "get")) is TimedOut


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_a_failure_after_a_write_in_the_same_flow_is_doubtful(
    exchange: Exchange, peer: Peer, status: int
) -> None:
    provider = acme(peer.url)
    peer.answers(201)
    peer.answers(status)
    assert type(await failure(exchange, provider, provider.write_then_look())) is OutcomeUnknown


async def test_a_second_step_that_is_not_sent_leaves_the_first_in_doubt(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    peer.answers(201)
    peer.hangs_up()
    assert type(await failure(exchange, provider, provider.write_then_look())) is OutcomeUnknown


async def test_a_status_that_the_flow_accepts_is_an_answer(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    peer.answers(404)
    assert await exchange.run(provider, "get", provider.look_and_accept_absence()) == 404


async def test_a_flow_that_never_ends_is_our_bug(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    for _ in range(7):
        peer.answers(200)
    with pytest.raises(RuntimeError, match="not more"):
        await exchange.run(provider, "get", provider.never_ending())


async def test_retry_after_is_passed_on(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    peer.answers(429, headers=["Retry-After: 7"])
    assert (await failure(exchange, provider, provider.write())).retry_after == 7


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 3),
        ("5", 5),
        ("99999999999999", 60),
        ("-1", 3),
        ("soon", 3),
        ("NaN", 3),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 60),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(text: str | None, seconds: int) -> None:
    assert seconds_of(text, default=3) == seconds


async def test_a_provider_that_keeps_failing_is_given_a_rest(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    for _ in range(FAILURES_IN_A_ROW):
        peer.answers(500)
        assert type(await failure(exchange, provider, provider.write())) is OutcomeUnknown
    error = await failure(exchange, provider, provider.write())
    assert type(error) is Unavailable
    assert 1 <= (error.retry_after or 0) <= 6
    assert len(peer.seen) == FAILURES_IN_A_ROW
    assert exchange.lane(provider).circuit.state == "open"


async def test_a_refusal_of_the_callers_data_is_no_sign_of_ill_health(exchange: Exchange, peer: Peer) -> None:
    provider = acme(peer.url)
    for _ in range(FAILURES_IN_A_ROW + 1):
        peer.answers(422)
        assert type(await failure(exchange, provider, provider.write())) is Rejected
    assert exchange.lane(provider).circuit.state == "closed"
