"""A load of writes, and the record of what was asked, what was answered, and what nobody knows."""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import aiohttp

from tests.soak.processes import ADMIN

Kind = Literal["ticket", "reply", "invoice", "payment", "client", "service", "end"]

PATIENCE = 60
"""Seconds that a caller goes on asking for one write, once there is to be no other."""
PAUSE = 0.1
"""Seconds between two attempts, where ``Retry-After`` asks for a whole one: a hard caller finds more."""

PRODUCT = 3
CALLERS = 8


@dataclass(frozen=True)
class Attempt:
    """One request: from when to when, and its answer, or why there is none."""

    begun: float
    ended: float
    status: int | None = None
    retry_after: str | None = None
    error: str = ""
    replayed: bool = False
    """The answer is one that was given before, as far as the server knows: it was lost on its way."""

    @property
    def waits(self) -> bool:
        """Whether the caller must send the request again."""
        later = self.status == 409 and self.retry_after is not None
        return self.status is None or self.status >= 500 or later


@dataclass
class Write:
    """One change that a caller wants, however often it must ask. ``mark`` tells it from all others.

    ``of`` is the id of what is changed: a reply's ticket, a payment's invoice, a client. ``answer`` is the
    ``data`` of a 2xx.
    """

    kind: Kind
    mark: str
    of: int = 0
    total: Decimal = Decimal(0)
    attempts: list[Attempt] = field(default_factory=list)
    answer: Any = None

    @property
    def outcome(self) -> Literal["acknowledged", "unknown", "refused"]:
        if self.answer is not None:
            return "acknowledged"
        return "unknown" if not self.attempts or self.attempts[-1].waits else "refused"


@dataclass
class History:
    """All writes, and when the server's process was not there."""

    writes: list[Write] = field(default_factory=list)
    downs: list[tuple[float, float]] = field(default_factory=list)

    @property
    def attempts(self) -> Iterator[Attempt]:
        return (attempt for write in self.writes for attempt in write.attempts)

    def count(self, *outcomes: str) -> int:
        """How many writes have one of the outcomes."""
        return sum(each.outcome in outcomes for each in self.writes)

    @contextmanager
    def down(self) -> Iterator[None]:
        """The server's process ends and comes back meanwhile, so connections break."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.downs.append((begun, time.monotonic()))

    async def further(self, number: int, wanted: Callable[[Attempt], bool], seconds: float = 30) -> None:
        """Wait until so many more attempts have ended as ``wanted``."""
        begun = time.monotonic()
        while sum(each.begun >= begun and wanted(each) for each in self.attempts) < number:
            assert time.monotonic() < begun + seconds, f"not {number} such answers within {seconds} s"
            await asyncio.sleep(0.02)


class Caller:
    """Writes one thing after the other as the operator, each with a mark of its own."""

    def __init__(self, nth: int, base: str, http: aiohttp.ClientSession, history: History) -> None:
        # Nobody else changes this client, so the order of its changes is known.
        self.client = 50 + nth
        self.base = base
        self.http = http
        self.history = history
        self.deadline: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Open, reply, invoice, pay, change, order and terminate until ``stop``."""
        for nth in itertools.count(1):
            if stop.is_set():
                return
            await self._ticket()
            await self._invoice(nth)
            await self._send(Write("client", str(nth), self.client), "PUT", f"/clients/{self.client}", {})
            await self._service(nth)

    async def _ticket(self) -> None:
        ticket = await self._send(
            Write("ticket", _mark()), "POST", "/tickets", {"client_id": self.client, "department_id": 1}
        )
        if ticket:
            reply = Write("reply", _mark(), ticket["id"])
            await self._send(reply, "POST", f"/tickets/{ticket['id']}/reply", {})

    async def _invoice(self, nth: int) -> None:
        amounts = [Decimal(nth) + Decimal("0.10"), Decimal("0.20"), Decimal("19.99")]
        mark = _mark()
        body = {
            "client_id": self.client,
            "due_date": "2035-01-31",
            "items": [{"description": mark, "amount": str(amount)} for amount in amounts],
        }
        write = Write("invoice", mark, total=sum(amounts, Decimal(0)))
        invoice = await self._send(write, "POST", "/invoices", body)
        # Some stay unpaid, and must have no payment.
        if invoice and nth % 4:
            pay = Write("payment", _mark(), invoice["id"], write.total)
            await self._send(pay, "POST", f"/invoices/{invoice['id']}/pay", None)

    async def _service(self, nth: int) -> None:
        mark = _mark()
        body = {"client_id": self.client, "product_id": PRODUCT, "billing_cycle": "monthly"}
        body |= {"domain": f"{mark}.example.com", "username": f"u{mark}"}
        service = await self._send(Write("service", mark), "POST", "/services", body)
        if service:
            await self._send(
                Write("end", _mark(), service["id"]), "POST", f"/services/{service['id']}/terminate", None
            )

    async def _send(self, write: Write, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """Ask until there is an answer that settles it; its ``data``, None where it was refused."""
        self.history.writes.append(write)
        if body is not None:
            body = body | _texts(write)
        # A PUT may be repeated as it is.
        headers = {"Idempotency-Key": write.mark} if method == "POST" else {}
        while True:
            begun = time.monotonic()
            status, retry_after, error, replayed = None, None, "", False
            content: Any = None
            try:
                async with self.http.request(method, self.base + path, json=body, headers=headers) as got:
                    content = await got.json()
                    status, retry_after = got.status, got.headers.get("Retry-After")
                    replayed = "Idempotent-Replayed" in got.headers
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                error = f"{type(failure).__name__}: {failure}"
            attempt = Attempt(begun, time.monotonic(), status, retry_after, error, replayed)
            write.attempts.append(attempt)
            if status is not None and status < 300:
                write.answer = content["data"]
            late = self.deadline is not None and attempt.ended > self.deadline
            if not attempt.waits or late:
                return write.answer
            await asyncio.sleep(PAUSE)


def _mark() -> str:
    return secrets.token_hex(8)


def _texts(write: Write) -> dict[str, str]:
    """The members of a body that bear the mark."""
    match write.kind:
        case "ticket":
            return {"subject": write.mark, "message": "Load"}
        case "reply":
            return {"message": write.mark}
        case "client":
            return {"company": write.mark}
    return {}


@asynccontextmanager
async def loading(base: str, history: History) -> AsyncIterator[None]:
    """Callers that write for as long as the context, and then until each has its last answer."""
    stop = asyncio.Event()
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(30)) as http:
        callers = [Caller(nth, base, http, history) for nth in range(CALLERS)]
        tasks = [asyncio.create_task(each.run(stop)) for each in callers]
        try:
            yield
            stop.set()
            for each in callers:
                each.deadline = time.monotonic() + PATIENCE
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
