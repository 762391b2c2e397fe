"""What the OpenAPI document promises holds for whoever takes it at its word."""

import pytest

from tests.contract import strangers


@pytest.mark.timeout(120)
def test_a_stranger_finds_nothing_that_the_document_does_not_say() -> None:
    tally = strangers.try_many(300, seed=7, examples=1)
    assert not tally.findings, tally.findings[0]
    assert tally.outcomes.total() >= 300
    assert tally.outcomes["POST /v1/invoices 201"]
    assert tally.outcomes["GET /v1/invoices/{id} 200"]
    assert tally.outcomes["POST /v1/invoices/{id}/checkout 200"]
