"""The classes of faults, which operations each fits, and the mutants that are drawn from all of them.

A mutant is one class of fault in one operation. What is said in statuses, headers, shapes, 5xx and
authentication the contract says, so Schemathesis alone must notice it; the rest the tests must.
"""

import dataclasses
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import select, update

from handlers.caller import Caller
from openapi import contract, loading
from persistence import lifecycle
from persistence.invoices import Invoice
from persistence.listing import Listing
from persistence.services import Service
from persistence.tickets import Ticket
from persistence.types import Base
from server.errors import detail, invalid_request
from server.request.plan import Plan
from tests.mutants.planting import (
    TRACES,
    Answer,
    Given,
    Work,
    accepting,
    admitting,
    altering,
    around,
    inside,
    unasked,
)
from webhooks import outbox, signing

DOCUMENT = loading.bundle()
OPERATIONS = {each.id: each for each in contract.operations(DOCUMENT)}

Operation = contract.Operation


@dataclasses.dataclass(frozen=True)
class Fault:
    """A class of faults. Without ``tests`` the fuzz alone must notice it.

    ``tests`` are the tests that are there for it, as pytest is told them; of ``matrix``, which tries every
    operation in turn, only what bears the operation's name is asked.
    """

    name: str
    fits: Callable[[Operation], bool]
    plant: Callable[[Operation], None]
    tests: str = ""
    matrix: str = ""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One class of fault in one operation."""

    fault: Fault
    operation: Operation

    def __str__(self) -> str:
        return f"{self.fault.name}, {self.operation.id}"


# What operations are, by the contract.


def answers_json(operation: Operation) -> bool:
    content = _success(operation).get("content", {})
    # What shows the contract itself has no shape that could be wrong.
    return "application/json" in content and operation.spec["tags"] != ["contract"]


def is_list(operation: Operation) -> bool:
    return answers_json(operation) and bool(parameters(operation) & {"page"})


def has(*statuses: str) -> Callable[[Operation], bool]:
    return lambda operation: answers_json(operation) and set(statuses) <= set(operation.spec["responses"])


def parameters(operation: Operation) -> set[str]:
    return {contract.deref(DOCUMENT, each)["name"] for each in operation.spec.get("parameters", [])}


def is_protected(operation: Operation) -> bool:
    return not operation.public


def is_owned(operation: Operation) -> bool:
    """Whether it shows a client some of what belongs to clients."""
    shown = "{id}" in operation.path or is_list(operation)
    return len(operation.audiences) == 2 and shown and operation.scope != "departments:read"


def audience(operation: Operation) -> contract.Audience:
    """Who fuzzes an operation: a client where it may."""
    return "client" if "client" in operation.audiences else "admin"


def has_input(operation: Operation) -> bool:
    """Whether whoever fuzzes it can send it anything."""
    mine = audience(operation)
    shared = [contract.deref(DOCUMENT, each) for each in operation.spec.get("parameters", [])]
    asked = [each for each in shared if each.get("x-dialect", mine) == mine]
    return answers_json(operation) and ("requestBody" in operation.spec or bool(asked))


def has_header(name: str) -> Callable[[Operation], bool]:
    return lambda operation: answers_json(operation) and name in _success(operation).get("headers", {})


def _success(operation: Operation) -> Any:
    status = next(each for each in operation.spec["responses"] if each.startswith("2"))
    return contract.deref(DOCUMENT, operation.spec["responses"][status])


# Answers that are wrong.


def _thing(body: Any) -> Any:
    """The object that an answer is about: of a list the first, without the admin's envelope."""
    data = body.get("data") if isinstance(body, dict) else None
    if isinstance(data, list) and data:
        return data[0]
    return data if isinstance(data, dict) else body


def _answers(change: Callable[[Answer], Answer]) -> Callable[[Operation], None]:
    return lambda operation: altering(operation, change)


def _things(change: Callable[[Any], None]) -> Callable[[Operation], None]:
    def changed(answer: Answer) -> Answer:
        if not answer.good:
            return answer
        body = answer.json
        thing = _thing(body)
        if isinstance(thing, dict) and thing:
            change(thing)
        return answer.saying(body)

    return _answers(changed)


def _mistype(thing: dict[str, Any]) -> None:
    name, value = next(iter(thing.items()))
    thing[name] = 1 if isinstance(value, str) else str(value)


def _drop_member(thing: dict[str, Any]) -> None:
    del thing[list(thing)[-1]]


def _good_without(name: bytes) -> Callable[[Operation], None]:
    return _answers(lambda answer: answer.without(name) if answer.good else answer)


def _any_without(name: bytes) -> Callable[[Operation], None]:
    return _answers(lambda answer: answer.without(name))


def _other_dialect(answer: Answer) -> Answer:
    """What is said, said as the other audience is told it."""
    body = answer.json
    if not isinstance(body, dict) or answer.status in (401, 405, 406, 413, 415, 500, 503):
        return answer
    if answer.good:
        changed = {"status": "success", "data": body} if answer.dialect == "client" else body["data"]
    elif answer.dialect == "client":
        changed = {"status": "error", "error": {"code": "NOT_FOUND", "message": body["error"]}}
    else:
        changed = {"error": body["error"]["message"], "code": answer.status}
    return answer.saying(changed)


def _wrong_code(answer: Answer) -> Answer:
    """Another code of the operators' than the status has."""
    body = answer.json
    if not isinstance(body, dict) or answer.status < 400 or answer.dialect == "client":
        return answer
    code = "CONFLICT" if body["error"]["code"] != "CONFLICT" else "NOT_FOUND"
    return answer.saying(body | {"error": body["error"] | {"code": code}})


def _wrong_number(answer: Answer) -> Answer:
    """Another number in a client's error than the status."""
    body = answer.json
    if not isinstance(body, dict) or answer.status < 400 or answer.dialect == "admin":
        return answer
    return answer.saying(body | {"code": 404 if answer.status != 404 else 403})


def _accept_anything(operation: Operation) -> None:
    """Answer what is refused for its input like the last that was not."""
    last: list[Answer] = []

    def change(answer: Answer) -> Answer:
        if answer.good:
            last[:] = [answer]
        return last[0] if answer.status in (400, 422) and last else answer

    altering(operation, change)


def _refuse_everything(operation: Operation) -> None:
    def refuse(_plan: Plan, _given: Given) -> Given:
        TRACES.add()
        raise invalid_request(detail("body", "", "This cannot be taken."))

    accepting(operation, refuse)


def _missing_is_gone(answer: Answer) -> Answer:
    if answer.status != 404:
        return answer
    return dataclasses.replace(answer, status=410)


def _fail_at(edge: Callable[[Operation, Given], bool]) -> Callable[[Operation], None]:
    def plant(operation: Operation) -> None:
        def check(_plan: Plan, given: Given) -> Given:
            if edge(operation, given):
                TRACES.add()
                raise OverflowError("a fault that was planted")
            return given

        accepting(operation, check)

    return plant


def _numbers(operation: Operation) -> dict[str, int]:
    """The greatest value of each parameter that has one."""
    given = [contract.deref(DOCUMENT, each) for each in operation.spec.get("parameters", [])]
    schemas = {each["name"]: contract.deref(DOCUMENT, each["schema"]) for each in given}
    return {name: each["maximum"] for name, each in schemas.items() if "maximum" in each}


def _largest(operation: Operation, given: Given) -> bool:
    return any(given.get(name) == most for name, most in _numbers(operation).items())


def _lengths(operation: Operation) -> dict[str, int]:
    """The greatest length of each text of the body, whatever the dialect."""
    if "requestBody" not in operation.spec:
        return {}
    content = operation.spec["requestBody"]["content"]["application/json"]["schema"]
    found = {}
    for dialect in contract.AUDIENCES:
        branch = contract.deref(DOCUMENT, contract.branch(DOCUMENT, content, dialect))
        for name, each in ((branch or {}).get("properties") or {}).items():
            schema = contract.deref(DOCUMENT, each)
            # What has a form is seldom tried at its greatest length.
            if "maxLength" in schema and not {"pattern", "format", "enum"} & set(schema):
                found[name] = schema["maxLength"]
    return found


def _longest(operation: Operation, given: Given) -> bool:
    body = given.get("body")
    if not isinstance(body, dict):
        return False
    return any(len(body.get(name, "")) == most for name, most in _lengths(operation).items())


# Callers who are let in.


def _let_in(operation: Operation) -> None:
    client = "client" in operation.audiences
    unasked(operation, Caller.client(0, 42) if client else Caller.admin(0, "*"))


def _disown(operation: Operation) -> None:
    async def everyones(handler: Work, given: Given) -> Any:
        user = given["user"]
        if user.client_id is not None:
            TRACES.add()
            given["user"] = dataclasses.replace(user, client_id=None)
        return await handler(**given)

    around(operation, everyones)


# Lists that are wrong.


def _skip_a_row(operation: Operation) -> None:
    async def page(old: Work, *args: Any, **given: Any) -> Any:
        found = await old(*args, **given)
        if (given["page"] < 2 and given["after"] is None) or not found.rows:
            return found
        TRACES.add()
        return dataclasses.replace(found, rows=found.rows[1:])

    inside(operation, Listing, "page", page)


def _keep_the_total(operation: Operation) -> None:
    totals: dict[Any, int] = {}

    async def page(old: Work, *args: Any, **given: Any) -> Any:
        found = await old(*args, **given)
        where = [(name, each) for name, each in given.items() if name not in ("page", "limit", "after")]
        total = totals.setdefault(str(sorted(where)), found.total)
        if total != found.total:
            TRACES.add()
        return dataclasses.replace(found, total=total)

    inside(operation, Listing, "page", page)


def _unlink(operation: Operation) -> None:
    altering(operation, lambda answer: answer.without(b"link"))


# States that are wrong.

VERBS: dict[str, tuple[type[Base], dict[str, lifecycle.Transition], str]] = {
    "suspend_service": (Service, lifecycle.SERVICE, "suspend"),
    "unsuspend_service": (Service, lifecycle.SERVICE, "unsuspend"),
    "terminate_service": (Service, lifecycle.SERVICE, "terminate"),
    "pay_invoice": (Invoice, lifecycle.INVOICE, "pay"),
    "close_ticket": (Ticket, lifecycle.TICKET, "close"),
    "reply_to_ticket": (Ticket, lifecycle.TICKET, "reply_as_staff"),
}


def _from_any_state(operation: Operation) -> None:
    table, verbs, verb = VERBS[operation.id]
    columns = table.__table__.c

    async def forced(handler: Work, given: Given) -> Any:
        others = [columns.status != state for state in verbs[verb].from_states]
        forbidden = update(table).where(columns.id == given["id"], *others)
        if await given["db"].run(forbidden.values(status=verbs[verb].from_states[0])):
            TRACES.add()
        return await handler(**given)

    around(operation, forced)


def _keep_the_state(operation: Operation) -> None:
    table, _, _ = VERBS[operation.id]
    columns = table.__table__.c

    async def undone(handler: Work, given: Given) -> Any:
        db = given["db"]
        before = await db.fetch_one(select(columns.status).where(columns.id == given["id"]))
        answer = await handler(**given)
        TRACES.add()
        await db.execute(update(table).where(columns.id == given["id"]).values(status=before.status))
        return answer

    around(operation, undone)


# Credentials and webhooks that outgrow their parent.

GRANTING = {
    *("create_api_key", "create_token"),
    *("create_webhook", "update_webhook", "resend_delivery", "recover_webhook"),
}


def _grant_what_is_lacking(operation: Operation) -> None:
    def granted(old: Callable[..., None], caller: Caller, scopes: Iterable[str], task: str) -> None:
        if not all(map(caller.has_scope, asked := list(scopes))):
            TRACES.add()
        old(caller, filter(caller.has_scope, asked), task)

    inside(operation, Caller, "require_scopes", granted)


def _outlive(operation: Operation) -> None:
    async def endless(handler: Work, given: Given) -> Any:
        if given["user"].expires_at:
            TRACES.add()
        return await handler(**given | {"user": dataclasses.replace(given["user"], expires_at=None)})

    around(operation, endless)


# Events that are wrong.

EVENTS = {
    "create_client": "client.created",
    "create_service": "service.created",
    "suspend_service": "service.suspended",
    "terminate_service": "service.terminated",
    "create_invoice": "invoice.created",
    "pay_invoice": "invoice.paid",
    "create_ticket": "ticket.opened",
    "reply_to_ticket": "ticket.replied",
}


def _tell(times: int) -> Callable[[Operation], None]:
    async def record(old: Work, *args: Any) -> None:
        TRACES.add()
        for _ in range(times):
            await old(*args)

    return lambda operation: inside(operation, outbox, "record", record)


def _is_of(operation: Operation, body: bytes) -> bool:
    return b'"event":"%s"' % EVENTS[operation.id].encode() in body


def _unsign(operation: Operation) -> None:
    sign = signing.body

    def unsigned(key: bytes, base: bytes) -> bytes:
        if not _is_of(operation, base):
            return sign(key, base)
        TRACES.add()
        return re.sub(rb"[0-9a-f]{64}(?=\"}$)", b"0" * 64, sign(key, base))

    setattr(signing, sign.__name__, unsigned)


def _unsign_header(operation: Operation) -> None:
    write = signing.headers

    def unsigned(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
        headers = write(keys, id, timestamp, body)
        if _is_of(operation, body):
            TRACES.add()
            headers["webhook-signature"] = "v1,"
        return headers

    setattr(signing, write.__name__, unsigned)


# Headers that are not heard.


def _deaf_to(name: str) -> Callable[[Operation], None]:
    def forget(_plan: Plan, given: Given) -> Given:
        return {each: value for each, value in given.items() if each != name}

    return lambda operation: accepting(operation, forget)


AUTH = "tests/api/test_auth.py"
PAGES = "tests/api/test_paging.py"
STATES = "tests/contract/test_lifecycle.py"
TOLD = "tests/api/test_events.py::TestChanges"
SENT = "tests/contract/test_source_documents.py::TestArcBillingWebhooks"

FAULTS = [
    # The fuzz alone must notice these.
    Fault(
        "unlisted status",
        answers_json,
        _answers(lambda answer: dataclasses.replace(answer, status=202) if answer.good else answer),
    ),
    Fault("unlisted refusal", has("404"), _answers(_missing_is_gone)),
    Fault("good input refused", answers_json, _refuse_everything),
    Fault("bad input accepted", has_input, _accept_anything),
    Fault("missing member", answers_json, _things(_drop_member)),
    Fault("extra member", answers_json, _things(lambda thing: thing.update(surprise=1))),
    Fault("mistyped member", answers_json, _things(_mistype)),
    Fault("no X-Request-Id", answers_json, _any_without(b"x-request-id")),
    Fault("no ETag", has_header("ETag"), _good_without(b"etag")),
    Fault("no WWW-Authenticate", is_protected, _any_without(b"www-authenticate")),
    Fault("no Allow", answers_json, _any_without(b"allow")),
    Fault("500 on the largest number", lambda each: bool(_numbers(each)), _fail_at(_largest)),
    Fault("500 on the longest text", lambda each: bool(_lengths(each)), _fail_at(_longest)),
    Fault("wrong dialect", lambda each: answers_json(each) and is_protected(each), _answers(_other_dialect)),
    Fault("dropped authentication", is_protected, _let_in),
    # These the tests must, where the fuzz does not.
    Fault("dropped ownership", is_owned, _disown, matrix=AUTH),
    Fault(
        "dropped scope",
        lambda each: each.scope is not None,
        lambda each: admitting(each, scopes=True),
        matrix=AUTH,
    ),
    Fault(
        "granted what it lacks",
        lambda each: each.id in GRANTING,
        _grant_what_is_lacking,
        tests="tests/api/test_tokens.py::TestWhatOutgrowsItsParent",
    ),
    Fault(
        "outlived by what it made",
        lambda each: each.id in ("create_api_key", "create_token"),
        _outlive,
        tests="tests/api/test_tokens.py::TestWhatOutgrowsItsParent",
    ),
    Fault(
        "dropped kind",
        lambda each: is_protected(each) and len(each.audiences) == 1,
        lambda each: admitting(each, kinds=True),
        matrix=AUTH,
    ),
    Fault(
        "wrong error code",
        lambda each: "admin" in each.audiences and is_protected(each),
        _answers(_wrong_code),
        matrix=AUTH,
    ),
    Fault("wrong number in an error", is_protected, _answers(_wrong_number), matrix=AUTH),
    Fault("page that skips a row", is_list, _skip_a_row, matrix=PAGES),
    Fault("stale total", is_list, _keep_the_total, matrix=PAGES),
    Fault("next page not linked", is_list, _unlink, matrix=PAGES),
    Fault("state skipped", lambda each: each.id in VERBS, _from_any_state, STATES),
    Fault("state not kept", lambda each: each.id in VERBS, _keep_the_state, STATES),
    Fault("event lost", lambda each: each.id in EVENTS, _tell(0), TOLD),
    Fault("event doubled", lambda each: each.id in EVENTS, _tell(2), TOLD),
    Fault("event unsigned", lambda each: each.id in EVENTS, _unsign, SENT),
    Fault("event unsigned in its header", lambda each: each.id in EVENTS, _unsign_header, SENT),
    Fault(
        "Idempotency-Key unheard",
        lambda each: "Idempotency-Key" in parameters(each),
        _deaf_to("idempotency_key"),
        matrix="tests/api/test_idempotency.py",
    ),
    Fault(
        "If-Match unheard",
        lambda each: "If-Match" in parameters(each),
        _deaf_to("if_match"),
        "tests/api/test_versions.py",
    ),
]
BY_NAME = {each.name: each for each in FAULTS}

# Its example belongs to a client who may not be deleted, and whoever makes one that may is slow.
LEFT_OUT = frozenset({"delete_client"})


def fitting(fault: Fault) -> list[Operation]:
    """The operations that a class of faults fits."""
    return [each for each in OPERATIONS.values() if each.id not in LEFT_OUT and fault.fits(each)]


def drawn(seed: int, each: int) -> Iterator[Mutant]:
    """So many mutants of every class, drawn by chance, which the seed repeats."""
    for fault_ in FAULTS:
        operations = fitting(fault_)
        chance = random.Random(f"{seed} {fault_.name}")
        for operation in chance.sample(operations, min(each, len(operations))):
            yield Mutant(fault_, operation)


def named(text: str) -> Mutant:
    """The mutant that is called so. Raises ValueError, also where the fault does not fit the operation."""
    name, _, id = text.rpartition(", ")
    if name not in BY_NAME or id not in OPERATIONS or not BY_NAME[name].fits(OPERATIONS[id]):
        raise ValueError(f"There is no mutant {text!r}: write a class and an operation that it fits.")
    return Mutant(BY_NAME[name], OPERATIONS[id])
