"""The status of the service (CloudBill, "GET /api/v1/status")."""

from datetime import datetime

from handlers.dialects import HandlerResult


async def get_status(now: datetime) -> HandlerResult:
    """The public health check: the same bare object for everyone."""
    return {"status": "ok", "version": "1.0", "time": f"{now:%Y-%m-%dT%H:%M:%S}+00:00"}, 200
