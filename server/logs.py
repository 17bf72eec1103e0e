"""One line for each request, without a token, a body or a query string."""

import json
import logging
import sys
import time
from typing import Any

from starlette.types import Scope

from server.environment import Settings
from server.transport import Call

access = logging.getLogger("cloudarc.access")


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, message, and what the caller gave as ``extra={"fields": …}``."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        line = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {record.getMessage()}{fields}"
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(settings: Settings) -> None:
    """Log to stdout, in the form and from the level that the settings name."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("alembic", "connexion", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel("WARNING")


def log_call(call: Call, scope: Scope) -> None:
    """Write the line of a request that has been answered."""
    if not access.isEnabledFor(logging.INFO):
        return
    plan = call.match.plan(scope["method"]) if call.match else None
    fields = {
        "id": call.request_id,
        "caller": f"{call.caller.kind}:{call.caller.id}" if call.caller else "-",
        "operation": plan.id if plan else "-",
        "status": call.status,
        "ms": round((time.perf_counter() - call.started) * 1000, 1),
    }
    access.info("request", extra={"fields": fields})
