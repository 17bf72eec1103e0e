"""The checker of the soak runs passes on a good history, and notices each breach that is planted in it."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.soak import invariants
from tests.soak.invariants import Event, Invoice, State
from tests.soak.ledger import Attempt, History, Write
from tests.soak.processes import Received
from webhooks import signing

SECRET = signing.mint(lambda number: bytes(range(number)))
KEY = signing.key_of(SECRET)
AT = 1_000_000

EVENTS = [
    Event("evt_1", "ticket.opened", 1),
    Event("evt_2", "ticket.replied", 1),
    Event("evt_3", "invoice.created", 10),
    Event("evt_4", "invoice.paid", 10),
    Event("evt_5", "invoice.created", 11),
]
STATE = State(
    tickets={1: "subject"},
    replies=[(1, "reply")],
    invoices={
        10: Invoice("paid", Decimal("3.30"), (("paid", Decimal("1.10")), ("more", Decimal("2.20")))),
        11: Invoice("unpaid", Decimal("5.00"), (("unpaid", Decimal("5.00")),)),
    },
    payments=[(10, Decimal("3.30"))],
    services={20: ("order.example.com", "terminated")},
    companies={50: "3"},
    events=EVENTS,
    used={1: (7, 7)},
)


def received(event: Event, at: float = AT) -> Received:
    body = signing.body(KEY, signing.signed_payload(event.kind, "2026-01-31T12:00:00Z", {"id": event.of}))
    return Received(at, "/ok", signing.headers([KEY], event.uid, AT, body), body)


ARRIVED = [received(each) for each in EVENTS]


def answered(status: int = 201, retry_after: str | None = None, begun: float = 1) -> Attempt:
    return Attempt(begun, begun + 1, status, retry_after)


def broken(begun: float) -> Attempt:
    return Attempt(begun, begun + 1, error="ServerDisconnectedError")


def history(*further: Write, downs: list[tuple[float, float]] | None = None) -> History:
    """One write of each kind, all acknowledged, and ``further``."""
    good: list[tuple[Any, str, int, str, int]] = [
        ("ticket", "subject", 0, "0", 1),
        ("reply", "reply", 1, "0", 2),
        ("invoice", "paid", 0, "3.30", 10),
        ("invoice", "unpaid", 0, "5.00", 11),
        ("payment", "pay", 10, "3.30", 10),
        ("service", "order", 0, "0", 20),
        ("end", "end", 20, "0", 20),
        ("client", "2", 50, "0", 50),
        ("client", "3", 50, "0", 50),
    ]
    writes = [
        Write(kind, mark, of, Decimal(total), [answered()], {"id": id}) for kind, mark, of, total, id in good
    ]
    return History([*writes, *further], downs or [])


def failing(
    state: State = STATE, arrived: list[Received] = ARRIVED, writes: History | None = None
) -> list[str]:
    figures = invariants.check(writes or history(), state, arrived, SECRET)
    return [each.name for each in figures if not each.holds]


class TestAGoodRun:
    def test_all_holds(self) -> None:
        assert failing() == []

    def test_what_nobody_knows_may_be_there_or_not(self) -> None:
        unknown = [Write("ticket", "subject", attempts=[broken(1)]), Write("ticket", "2", attempts=[])]
        unknown += [Write("client", "4", 50, attempts=[answered(503, "1")])]
        assert failing(writes=history(*unknown, downs=[(0, 3)])) == []
        assert failing(replace(STATE, companies={50: "4"}), writes=history(*unknown, downs=[(0, 3)])) == []

    def test_it_may_be_told_twice(self) -> None:
        assert failing(arrived=[*ARRIVED, ARRIVED[0]]) == []

    def test_what_was_there_before_is_left_out(self) -> None:
        left = STATE.since(STATE)
        assert (left.tickets, left.replies, left.invoices, left.payments, left.events) == ({}, [], {}, [], [])
        assert left.used == STATE.used


class TestAcknowledgedWritesAreThere:
    LOST = "acknowledged writes that are not there"

    def without(self, **members: Any) -> bool:
        return self.LOST in failing(replace(STATE, **members))

    def test_a_lost_ticket(self) -> None:
        assert self.without(tickets={})

    def test_a_lost_reply(self) -> None:
        assert self.without(replies=[])

    def test_a_lost_invoice(self) -> None:
        assert self.without(invoices={10: STATE.invoices[10]})

    def test_a_lost_payment(self) -> None:
        assert self.without(payments=[])

    def test_an_invoice_that_is_unpaid_again(self) -> None:
        unpaid = replace(STATE.invoices[10], status="unpaid")
        assert self.without(invoices={**STATE.invoices, 10: unpaid})

    def test_a_lost_order_and_a_lost_end(self) -> None:
        assert self.without(services={})
        assert self.without(services={20: ("order.example.com", "active")})

    def test_a_change_that_is_undone(self) -> None:
        assert self.without(companies={50: "2"})


class TestOnce:
    def test_a_write_done_twice(self) -> None:
        twice = replace(
            STATE, tickets={1: "subject", 2: "subject"}, events=[*EVENTS, Event("evt_6", "ticket.opened", 2)]
        )
        arrived = [*ARRIVED, received(twice.events[-1])]
        assert failing(twice, arrived) == ["writes that were done twice"]

    def test_a_valid_write_that_is_refused(self) -> None:
        refused = Write("ticket", "other", attempts=[answered(409)])
        assert failing(writes=history(refused)) == ["valid writes that were refused"]


class TestPayments:
    MISBOOKED = "invoices whose payments are not one if paid, else none"

    def test_two_payments(self) -> None:
        assert self.MISBOOKED in failing(replace(STATE, payments=STATE.payments * 2))

    def test_none_of_a_paid_invoice(self) -> None:
        assert self.MISBOOKED in failing(replace(STATE, payments=[]))

    def test_one_of_an_unpaid_invoice(self) -> None:
        assert self.MISBOOKED in failing(replace(STATE, payments=[*STATE.payments, (11, Decimal("5.00"))]))

    def test_one_of_no_invoice(self) -> None:
        assert self.MISBOOKED in failing(replace(STATE, payments=[*STATE.payments, (99, Decimal("5.00"))]))


class TestEvents:
    def test_a_change_without_an_event(self) -> None:
        silent = replace(STATE, events=EVENTS[:-1])
        assert failing(silent, ARRIVED[:-1]) == ["changes without an event"]

    def test_an_event_of_what_was_taken_back(self) -> None:
        ghost = Event("evt_6", "ticket.opened", 2)
        state = replace(STATE, events=[*EVENTS, ghost])
        assert failing(state, [*ARRIVED, received(ghost)]) == ["events without a change, or twice"]

    def test_two_events_of_one_change(self) -> None:
        second = Event("evt_6", "invoice.paid", 10)
        state = replace(STATE, events=[*EVENTS, second])
        assert failing(state, [*ARRIVED, received(second)]) == ["events without a change, or twice"]


class TestDeliveries:
    def test_an_event_that_is_not_delivered(self) -> None:
        assert failing(arrived=ARRIVED[1:]) == ["events that were not delivered"]

    def test_a_delivery_of_no_event(self) -> None:
        ghost = received(Event("evt_6", "ticket.opened", 2))
        assert failing(arrived=[*ARRIVED, ghost]) == ["deliveries of no event"]

    def test_a_body_that_does_not_verify(self) -> None:
        self.forged(lambda good: replace(good, body=good.body.replace(b"12:00", b"12:01")))

    def test_headers_that_do_not_verify(self) -> None:
        self.forged(lambda good: replace(good, headers=good.headers | {"webhook-signature": "v1,bm8="}))

    def test_a_time_that_is_far_off(self) -> None:
        self.forged(lambda good: replace(good, at=AT + 3600.0))

    @staticmethod
    def forged(forge: Callable[[Received], Received]) -> None:
        assert failing(arrived=[*ARRIVED[1:], forge(ARRIVED[0])]) == ["deliveries that do not verify"]


class TestAnswers:
    BAD = "5xx but 503 with Retry-After"
    BROKEN = "connections that broke while the server was up"

    def after(self, *attempts: Attempt) -> list[str]:
        write = Write("ticket", "subject", attempts=[*attempts, answered()], answer={"id": 1})
        return failing(writes=history(write, downs=[(100, 110)]))

    def test_503_that_says_when(self) -> None:
        assert self.after(answered(503, "1")) == []

    def test_503_that_does_not(self) -> None:
        assert self.after(answered(503)) == [self.BAD]

    def test_500(self) -> None:
        assert self.after(answered(500, "1")) == [self.BAD]

    def test_a_connection_that_breaks_as_the_server_ends(self) -> None:
        assert self.after(broken(99.5)) == []
        assert self.after(broken(105)) == []

    def test_a_connection_that_breaks_otherwise(self) -> None:
        assert self.after(broken(50)) == [self.BROKEN]
        assert self.after(broken(111)) == [self.BROKEN]


class TestSums:
    WRONG = "sums that do not add up"

    def test_a_total_that_is_not_the_sum(self) -> None:
        wrong = replace(STATE.invoices[11], lines=(("unpaid", Decimal("4.99")),))
        assert failing(replace(STATE, invoices={**STATE.invoices, 11: wrong})) == [self.WRONG]

    def test_a_payment_of_another_amount(self) -> None:
        assert self.WRONG in failing(replace(STATE, payments=[(10, Decimal("3.29"))]))

    def test_a_place_that_nobody_has(self) -> None:
        assert failing(replace(STATE, used={1: (8, 7)})) == [self.WRONG]
