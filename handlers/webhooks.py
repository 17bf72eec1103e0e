"""Webhooks (ArcBilling, "Webhooks"): whom to tell, with what secret, and what was sent. Managed by our own
operations, which stand in neither document. A secret is shown once.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from handlers.caller import Caller
from handlers.dialects import DELETED, AdminDialect, Body, HandlerResult, Views, instant, versions
from persistence import deliveries
from persistence import webhooks as endpoints
from persistence.database import Connection, Row
from persistence.sealing import Box
from webhooks import outbox, signing
from webhooks.events import event_kinds
from webhooks.targets import check_resolves_public

SHOWN_ATTEMPTS = 20
"""As many as the contract shows of a delivery, the last ones."""


def _instant(value: datetime | None) -> str | None:
    return AdminDialect.instant(value) if value else None


def _webhook(row: Row) -> Body:
    return {
        "id": row.id,
        "url": row.url,
        "events": row.events.split(),
        "active": row.active,
        "disabled_reason": row.disabled_reason,
        "failing_since": _instant(row.failing_since),
        "old_secret_until": _instant(row.old_secret_until),
        "created_at": AdminDialect.instant(row.created_at),
    }


def _with_secret(row: Row, secret: str) -> Body:
    return _webhook(row) | {"secret": secret}


def _attempt(row: Row) -> Body:
    return {
        "attempted_at": AdminDialect.instant(row.attempted_at),
        "status": row.status,
        "ms": row.ms,
        "answer": row.answer,
        "error": row.error,
    }


def _delivery(row: Row, attempts: Sequence[Row]) -> Body:
    return {
        "id": row.id,
        "webhook_id": row.webhook_id,
        "event_id": row.event_id,
        "message_id": row.uid,
        "event": row.event,
        "test": row.event_id is None,
        "status": row.status,
        "next_attempt_at": _instant(row.due_at) if row.status == "pending" else None,
        "created_at": AdminDialect.instant(row.created_at),
        "attempts": [_attempt(each) for each in attempts],
    }


def _recovered(id: int, queued: int) -> Body:
    return {"webhook_id": id, "queued": queued}


VIEWS = Views.same(_webhook)
SECRETS = Views.same(_with_secret)
RECOVERED = Views.same(_recovered)


def _deliveries(attempts: Mapping[int, Sequence[Row]]) -> Views:
    """Return the views of deliveries with their attempts, by the id of the delivery."""

    def view(row: Row) -> Body:
        return _delivery(row, attempts.get(row.id, ()))

    return Views.same(view)


def read_scope(event: str) -> str:
    """The scope that reads what an event is about: ``invoices:read`` for ``invoice.paid``."""
    return f"{event.partition('.')[0]}s:read"


def _require_readable(user: Caller, events: Iterable[str]) -> None:
    """Raise Forbidden unless the caller may read the nouns of ``events``, whose data the receiver gets."""
    user.require_scopes(map(read_scope, events), "send these events")


def _sealed(box: Box, id: int) -> tuple[str, str]:
    """A new secret, and as it is kept in the row of the webhook that the worker opens it for."""
    secret = signing.mint(secrets.token_bytes)
    return secret, box.seal(secret, endpoints.context(id))


async def _pending_events(db: Connection, id: int) -> Collection[str]:
    """The names of the events that wait to be sent to a webhook, or of all events where very many wait."""
    names = await deliveries.pending_events(db, id)
    return event_kinds() if names is None else names


async def list_webhooks(
    user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """A page of webhooks."""
    found = await endpoints.page(db, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, "/webhooks")


async def get_webhook(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One webhook."""
    return user.dialect.item(VIEWS, await endpoints.get(db, id))


async def create_webhook(
    body: dict[str, Any], user: Caller, db: Connection, now: datetime, box: Box, private_targets: bool
) -> HandlerResult:
    """Subscribe a URL to events, and show its secret once."""
    _require_readable(user, body["events"])
    # Nothing is locked yet while its host is looked up.
    await check_resolves_public(body["url"], private=private_targets)
    made = await endpoints.create(db, **{"active": True} | body, now=now)
    secret, sealed = _sealed(box, made.id)
    await endpoints.seal(db, made.id, sealed)
    return user.dialect.created(SECRETS, made, secret)


async def update_webhook(
    id: int,
    body: dict[str, Any],
    user: Caller,
    db: Connection,
    private_targets: bool,
    if_match: str | None = None,
) -> HandlerResult:
    """Change the members that the body names."""
    _require_readable(user, body.get("events", ()))
    if "url" in body:
        await check_resolves_public(body["url"], private=private_targets)
    if "url" in body or body.get("active"):
        # Pending deliveries are sent too, also those of events that the webhook no longer has.
        webhook = await endpoints.lock(db, id)
        events = body.get("events", webhook.events.split())
        _require_readable(user, [*events, *await _pending_events(db, id)])
    return user.dialect.item(VIEWS, await endpoints.update(db, id, body, versions(if_match)))


async def delete_webhook(id: int, user: Caller, db: Connection, if_match: str | None = None) -> HandlerResult:
    """Tell it no more."""
    await endpoints.delete(db, id, versions(if_match))
    return user.dialect.item(DELETED, id)


async def rotate_webhook(
    id: int, user: Caller, db: Connection, now: datetime, box: Box, body: dict[str, Any] | None = None
) -> HandlerResult:
    """Give it a new secret, and show that."""
    before = await endpoints.get(db, id)
    # Nobody can sign with a secret that was sealed with a key that is lost.
    hours = (body or {}).get("overlap_hours", 24) if box.opens(before.secret, endpoints.context(id)) else 0
    secret, sealed = _sealed(box, id)
    rotated = await endpoints.rotate(db, before, sealed, timedelta(hours=hours), now)
    return user.dialect.item(SECRETS, rotated, secret)


async def test_webhook(
    id: int,
    user: Caller,
    db: Connection,
    now: datetime,
    body: dict[str, Any] | None = None,  # noqa: PT028  this is an operation and no test
) -> HandlerResult:
    """Send it an example."""
    await endpoints.hold(db, id)
    made = await outbox.record_test(db, id, (body or {}).get("event", "invoice.paid"), now)
    return user.dialect.created(_deliveries({}), made)


async def list_deliveries(
    id: int,
    user: Caller,
    db: Connection,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
    status: str | None = None,
) -> HandlerResult:
    """A page of what was sent to it."""
    await endpoints.get(db, id)
    found = await deliveries.page(db, id, page=page, limit=limit, after=after, status=status)
    attempts = await deliveries.attempts(db, found.rows, SHOWN_ATTEMPTS)
    return user.dialect.page(_deliveries(attempts), found, f"/webhooks/{id}/deliveries", status=status)


async def resend_delivery(
    id: int, delivery_id: int, user: Caller, db: Connection, now: datetime
) -> HandlerResult:
    """Have a delivery made again."""
    delivery = await deliveries.get(db, id, delivery_id)
    if delivery.event_id is not None:
        _require_readable(user, [delivery.event])
    row = await deliveries.resend(db, id, delivery_id, now)
    return user.dialect.item(_deliveries(await deliveries.attempts(db, [row], SHOWN_ATTEMPTS)), row)


async def recover_webhook(
    id: int, body: dict[str, Any], user: Caller, db: Connection, now: datetime
) -> HandlerResult:
    """Have everything delivered that it missed."""
    webhook = await endpoints.hold(db, id)
    _require_readable(user, webhook.events.split())
    queued = await deliveries.recover(db, id, instant(body["since"]), now)
    # This also sends events that the webhook no longer has; a refusal rolls that back.
    _require_readable(user, await _pending_events(db, id))
    return user.dialect.item(RECOVERED, id, queued)
