"""One line for each request, without a token, a body or a query string.

Lines are written by a thread, so that a stdout that takes none delays no context.
"""

import json
import logging
import os
import threading
import time
from functools import lru_cache
from queue import Empty, SimpleQueue
from select import PIPE_BUF
from typing import Any

from handlers.caller import Caller
from server.request.context import RequestContext
from server.settings import Settings

access = logging.getLogger("cloudarc.access")


@lru_cache(8)
def _written(second: int, form: str) -> str:
    return time.strftime(form, time.localtime(second))


class JsonFormatter(logging.Formatter):
    """Formats a line of JSON: time, level, message and the ``extra={"fields": …}`` of the call."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": _written(int(record.created), "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Formats a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(map(" %s=%s".__mod__, getattr(record, "fields", {}).items()))
        clock = _written(int(record.created), "%H:%M:%S")
        line = f"{clock} {record.levelname.lower()} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


STDOUT = 1

QUEUED = 10_000
"""The lines that may wait for stdout. The writer drops and counts all others."""

PAUSE = 0.05
"""The seconds for which lines are gathered. To wake the thread for each line would cost more."""

FLUSH_SECONDS = 0.5


class Writer(logging.Handler):
    """Hands lines to a thread that writes them to a file descriptor, whole and in their order."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        self.dropped = 0
        self.told = 0
        # A daemon thread, so that a blocked stdout does not delay the end of the process.
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it."""
        if self.queue.qsize() >= QUEUED:
            self.dropped += 1
            return
        try:
            self.queue.put(self.format(record))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait briefly until all queued lines are written."""
        written = threading.Event()
        self.queue.put(written)
        written.wait(FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            items = [self.queue.get()]
            if not isinstance(items[0], threading.Event):
                time.sleep(PAUSE)
            for _ in range(QUEUED):
                try:
                    items.append(self.queue.get_nowait())
                except Empty:
                    break
            self._write([each for each in items if isinstance(each, str)])
            for each in items:
                if isinstance(each, threading.Event):
                    each.set()

    def _write(self, lines: list[str]) -> None:
        """Write lines in pieces that a pipe takes atomically, since other processes write to it as well."""
        if self.dropped > self.told:
            lines.insert(0, self._line_of_drops())
        piece, number = b"", 0
        for line in lines:
            encoded = line.encode(errors="backslashreplace") + b"\n"
            if piece and len(piece) + len(encoded) > PIPE_BUF:
                self._put(piece, number)
                piece, number = b"", 0
            piece, number = piece + encoded, number + 1
        if piece:
            self._put(piece, number)

    def _put(self, piece: bytes, number: int) -> None:
        try:
            while piece:
                piece = piece[os.write(self.descriptor, piece) :]
        except OSError:
            # A closed pipe or a full disk must not stop the server.
            self.dropped += number

    def _line_of_drops(self) -> str:
        number, self.told = self.dropped - self.told, self.dropped
        fields = {"fields": {"lines": number}}
        record = logging.makeLogRecord(
            {
                "name": "cloudarc",
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "msg": "dropped",
                **fields,
            }
        )
        return self.format(record)


def dropped() -> int:
    """Return the number of dropped lines."""
    return sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, Writer))


def flush() -> None:
    """Write all queued lines, if stdout accepts them."""
    for each in logging.getLogger().handlers:
        each.flush()


def set_up(settings: Settings) -> None:
    """Log to stdout, in the format and from the level of the settings."""
    root = logging.getLogger()
    # A process that serves and works has a writer already.
    writers = [each for each in root.handlers if isinstance(each, Writer)]
    root.handlers[:] = writers or [Writer(STDOUT)]
    root.handlers[0].setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root.setLevel(settings.log_level.upper())
    logging.getLogger("asyncpg.pool").addFilter(_in_one_line)
    for noisy in ("alembic", "connexion", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel("WARNING")


def _in_one_line(record: logging.LogRecord) -> bool:
    """Log a lost database connection without a traceback, since it is no fault of the code."""
    if record.exc_info and record.exc_info[1]:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", ()
        record.exc_info = None
    return True


# The attributes that all access log records share. The library would compute them for each record.
REQUEST = vars(logging.LogRecord(access.name, logging.INFO, __file__, 0, "request", (), None))


def _name(caller: Caller) -> str:
    """Return the name of a caller in the log, such as ``client:1``."""
    return f"{'operator' if caller.actor == 'operator' else caller.kind}:{caller.id}"


def log_request(context: RequestContext) -> None:
    """Write the access log line of a finished request."""
    if not access.isEnabledFor(logging.INFO):
        return
    fields = {
        "id": context.request_id,
        "caller": _name(context.caller) if context.caller else "-",
        "operation": context.operation,
        "status": context.status,
        "ms": round((time.perf_counter() - context.started) * 1000, 1),
    }
    record = logging.LogRecord.__new__(logging.LogRecord)
    vars(record).update(REQUEST, created=time.time())
    record.fields = fields
    access.handle(record)
