"""What the OpenAPI document promises holds for whoever takes it at its word."""

from pathlib import Path

import pytest

from tests.contract.strangers import ask, open_sandbox


@pytest.mark.timeout(120)
def test_a_stranger_finds_nothing_that_the_document_does_not_say(tmp_path: Path) -> None:
    with open_sandbox(tmp_path) as sandbox:
        tally = ask(sandbox, cases=300, examples=1, seed=7)
    assert not tally.found, tally.found[0]
    assert not tally.failures
    assert tally.cases >= 300
    assert tally.answers["POST /v1/invoices", 201]
    assert tally.answers["GET /v1/invoices/{id}", 200]
    assert tally.answers["POST /v1/invoices/{id}/checkout", 200]
