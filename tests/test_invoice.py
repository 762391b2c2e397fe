"""An invoice only moves forward, and every change that a caller can see is exactly one fact."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.invoice import FINISHED, MOVES, PAID, Checkout, Invoice, Snapshot, Status
from app.domain.money import Money

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
RESERVED = Invoice(
    id="inv_01jd7q8m3zf5k9w2x4y6a8b0c2",
    provider="any",
    status=Status.UNKNOWN,
    created_at=NOW,
    updated_at=NOW,
    amount=Money.parse("10", "EUR"),
)
SNAPSHOTS = st.builds(
    Snapshot,
    reference=st.just("r1"),
    status=st.sampled_from([None, *(status for status in Status if status is not Status.UNKNOWN)]),
    word=st.sampled_from(["A", "B"]),
)


def says(status: Status | None, word: str = "W", **more: object) -> Snapshot:
    return Snapshot(reference="r1", status=status, word=word, **more)  # type: ignore[arg-type]


def at(status: Status) -> Invoice:
    there = replace(RESERVED, status=status, reference="r1", provider_status="W")
    return replace(there, completed_at=NOW, amount_paid=there.amount) if status is Status.COMPLETED else there


def test_a_created_invoice_is_pending_and_says_so_once() -> None:
    change = RESERVED.learn(says(Status.PENDING), LATER)
    assert change.facts == ("invoice.created",)
    assert (change.invoice.status, change.invoice.reference, change.invoice.version) == (Status.PENDING, "r1", 2)
    assert change.invoice.learn(says(Status.PENDING), LATER).facts == ()


def test_an_invoice_that_is_paid_when_first_seen_is_created_and_completed() -> None:
    assert RESERVED.learn(says(Status.COMPLETED), LATER).facts == ("invoice.created", "invoice.completed")


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", [status for status in Status if status is not Status.UNKNOWN])
def test_a_move_is_one_fact_and_anything_else_changes_nothing(before: Status, after: Status) -> None:
    change = at(before).learn(says(after), LATER)
    if after in MOVES[before]:
        assert change.invoice.status is after
        assert change.facts == (("invoice.updated",) if after is Status.PENDING else (f"invoice.{after}",))
    else:
        assert replace(change.invoice, synced_at=None) == at(before)
        assert change.facts == ()


def test_a_late_word_does_not_even_change_the_providers_word() -> None:
    late = at(Status.COMPLETED).learn(says(Status.PENDING, "OLD"), LATER).invoice
    assert (late.status, late.provider_status) == (Status.COMPLETED, "W")


def test_an_unknown_word_changes_nothing_but_itself() -> None:
    change = at(Status.PROCESSING).learn(says(None, "MYSTERY"), LATER)
    assert (change.invoice.status, change.invoice.provider_status) == (Status.PROCESSING, "MYSTERY")
    assert change.facts == ("invoice.updated",)
    assert RESERVED.learn(says(None, "MYSTERY"), LATER).invoice.status is Status.PENDING


def test_another_amount_than_asked_is_never_accepted() -> None:
    wrong = says(Status.PENDING, amount=Money.parse("11", "EUR"), checkout=Checkout(url="https://pay.example"))
    change = RESERVED.learn(wrong, LATER)
    assert change.facts == ("invoice.created", "invoice.unknown")
    assert change.invoice.mismatched
    assert change.invoice.checkout is None
    assert at(Status.PENDING).learn(replace(wrong, status=Status.COMPLETED), LATER).invoice.status is Status.UNKNOWN


def test_a_mismatch_is_not_forgotten_by_an_answer_without_an_amount() -> None:
    wrong = RESERVED.learn(says(Status.PENDING, amount=Money.parse("11", "EUR")), LATER).invoice
    for status in (None, Status.PENDING, Status.COMPLETED):
        assert wrong.learn(says(status), LATER).invoice.status is Status.UNKNOWN
    assert wrong.learn(says(Status.CANCELED), LATER).invoice.status is Status.CANCELED
    right = wrong.learn(says(Status.PENDING, amount=RESERVED.amount), LATER).invoice
    assert (right.status, right.mismatched) == (Status.PENDING, False)


@pytest.mark.parametrize("status", Status)
def test_what_has_neither_ended_nor_another_amount_may_be_changed(status: Status) -> None:
    assert at(status).ended is (at(status).finished or at(status).paid)
    assert at(status).changeable is not at(status).ended
    assert not replace(at(status), mismatched=True).changeable


def test_another_amount_after_the_end_is_an_echo() -> None:
    wrong = says(Status.PENDING, amount=Money.parse("11", "EUR"))
    assert at(Status.COMPLETED).learn(wrong, LATER).facts == ()


def test_an_amount_that_was_not_asked_for_is_learnt() -> None:
    invoice = replace(RESERVED, amount=None)
    assert invoice.learn(says(Status.PENDING, amount=Money.parse("19.99", "USD")), LATER).invoice.amount == Money.parse(
        "19.99", "USD"
    )


def test_what_was_paid_in_another_asset_is_no_amount_paid() -> None:
    in_btc = says(Status.PARTIALLY_PAID, amount_paid=Money.parse("0.1", "BTC"))
    assert at(Status.PENDING).learn(in_btc, LATER).invoice.amount_paid is None
    half = says(Status.PARTIALLY_PAID, amount_paid=Money.parse("5", "EUR"))
    assert at(Status.PENDING).learn(half, LATER).invoice.amount_paid == Money.parse("5", "EUR")


def test_a_time_that_is_finer_than_we_keep_is_no_news() -> None:
    fine = says(Status.PENDING, expires_at=NOW.replace(microsecond=123_456), checkout=Checkout(expires_at=LATER))
    invoice = RESERVED.learn(fine, LATER).invoice
    assert invoice.expires_at == NOW.replace(microsecond=123_000)
    assert invoice.learn(fine, LATER).facts == ()


def test_finished_and_paid_tell_what_a_shop_needs() -> None:
    assert {status for status in Status if at(status).finished} == FINISHED
    assert {status for status in Status if at(status).paid} == PAID


@given(st.lists(SNAPSHOTS, max_size=12))
def test_no_sequence_of_snapshots_uncompletes_an_invoice(snapshots: list[Snapshot]) -> None:
    invoice, ever_paid = RESERVED, False
    for snapshot in snapshots:
        change = invoice.learn(snapshot, LATER)
        moved = change.invoice.status != invoice.status
        assert not moved or change.invoice.status in MOVES[invoice.status]
        assert (change.invoice.version > invoice.version) == bool(change.facts)
        assert change.invoice.learn(snapshot, LATER).facts == (), "the same word twice is one fact"
        invoice, ever_paid = change.invoice, ever_paid or change.invoice.paid
        assert not ever_paid or invoice.status in PAID | {Status.REFUNDED}


def test_in_whatever_order_final_words_come_the_strongest_stays() -> None:
    words = [Status.PENDING, Status.PROCESSING, Status.EXPIRED, Status.COMPLETED]
    for order in permutations(words):
        invoice = RESERVED
        for word in order:
            invoice = invoice.learn(says(word), LATER).invoice
        assert invoice.status is Status.COMPLETED
