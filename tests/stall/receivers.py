"""Webhooks to hostile receivers, and how long the API's event loop stalls because of what they send."""

import json
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from persistence import demo
from tests.stall.measuring import Row, Target, request, serving
from tests.support.hostile_receivers import Receivers, running_receivers

TOGETHER = 2
"""How many deliveries each receiver gets where all are called at once."""

ALONE = 20
"""As many as a worker sends to one receiver at once."""


def measure(folder: Path, url: str, *, tries: int, seconds: float, alone: bool) -> Iterator[Row]:
    """One row for all receivers at once; where these stall the loop, one for each ``alone``.

    A measurement takes some ``seconds`` from the first delivery on.
    """
    with running_receivers() as receivers:
        together = _measured(folder, url, receivers, "all at once", receivers.urls, TOGETHER, tries, seconds)
        yield together
        if alone and not together.holds:
            for name in receivers.urls:
                yield _measured(folder, url, receivers, name, [name], ALONE, tries, seconds)


def _measured(
    folder: Path,
    url: str,
    receivers: Receivers,
    title: str,
    names: Collection[str],
    deliveries: int,
    tries: int,
    seconds: float,
) -> Row:
    # What still comes from a receiver must not count against the next one, so each has a server of its own.
    with serving(folder, url, tries=tries, WEBHOOK_WORKER="inline") as target:

        def act(target: Target) -> int:
            statuses = [_deliver(target, receivers.urls[name], deliveries) for name in names]
            time.sleep(seconds)
            return min(statuses)

        before = {name: receivers.counts(name).connections for name in names}
        row = target.measure(
            f"receivers: {title}", act, lambda status: status == 201, prepare=partial(_delete_all, target)
        )
        _delete_all(target)
        idle = [name for name in names if receivers.counts(name).connections == before[name]]
        row.problem = row.problem or (f"never called: {', '.join(idle)}" if idle else "")
        return row


def _deliver(target: Target, url: str, number: int) -> int:
    """Have a new webhook sent some tests; the worst status of these calls."""
    body = json.dumps({"url": url, "events": ["ticket.opened"]}).encode()
    answer = target.answer(request("POST", "/api/v1/webhooks", demo.ADMIN_KEY, body=body))
    id = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["id"]
    test = request("POST", f"/api/v1/webhooks/{id}/test", demo.ADMIN_KEY)
    return max(target.send(test) for _ in range(number))


def _delete_all(target: Target) -> None:
    """Delete the webhooks, of which a url has but one and all have at most a hundred."""
    listed = target.answer(request("GET", "/api/v1/webhooks?limit=100", demo.ADMIN_KEY))
    for each in json.loads(listed.partition(b"\r\n\r\n")[2])["data"]:
        target.send(request("DELETE", f"/api/v1/webhooks/{each['id']}", demo.ADMIN_KEY))
