"""Whatever a provider says: what comes of it has a name, nothing unsaid is claimed, and no promise is broken."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract import answers, letters, liars
from tests.contract.answers import Saying, conversations, tried

pytestmark = pytest.mark.anyio

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def test_a_spoilt_answer_is_named_or_says_what_is_claimed_of_it() -> None:
    tally = await answers.try_many(800, seed=1)
    assert not tally.findings, tally.findings[0]
    assert {"ok", "outcome_unknown", "provider_invalid_response", "provider_rejected"} <= tally.outcomes.keys()


@settings(unhurried, max_examples=150)
@given(st.sampled_from(conversations()), st.sampled_from(answers.STATUSES), st.binary(max_size=200))
async def test_any_bytes_are_an_answer_with_a_name(conversation, status: int, body: bytes) -> None:
    sayings = [*conversation.sayings()[:-1], Saying(status, body=body)]
    came, wrong = await tried(conversation, sayings)
    assert wrong is None, (came, wrong)


@settings(unhurried, max_examples=150)
@given(st.sampled_from(conversations()), st.randoms(use_true_random=False))
async def test_no_way_to_spoil_an_answer_makes_it_a_lie(conversation, chance: Random) -> None:
    sayings = conversation.sayings()
    sayings[-1] = answers.misspoken(chance, sayings[-1])
    came, wrong = await tried(conversation, sayings)
    assert wrong is None, (came, wrong)


def test_a_spoilt_notification_is_not_believed_and_breaks_no_reader() -> None:
    tally = letters.try_many(600, seed=1)
    assert not tally.findings, tally.findings[0]
    assert tally.outcomes["read"] > 100


async def test_the_service_keeps_its_promise_whatever_the_providers_say() -> None:
    tally = await liars.try_many(200, seed=1)
    assert not tally.findings, tally.findings[0]
    assert tally.outcomes["createInvoice 201"]
    assert tally.outcomes["createInvoice 504"]
