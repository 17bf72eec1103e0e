"""What a request leaves in the log: nothing that opens anything."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator

import pytest

from server.observe import logs
from server.observe.logs import JsonFormatter, TextFormatter, Writer
from tests.raw.raw_client import ECHO, Wire, get, send, turn
from tests.support.live_server import ADMIN, CLIENT, Running
from tests.support.secret_leak_guard import Listener, judge_output, listener


class Kept(logging.Handler):
    """Keeps the records that reach the root logger, where the server's own handler sits.

    pytest's caplog also hears loggers that do not propagate, and uvicorn's access log speaks as soon as
    somebody listens to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        return "\n".join(f"{record.getMessage()} {vars(record)}" for record in self.records)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What is logged during the test."""
    root, handler = logging.getLogger(), Kept()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


class TestLogs:
    @pytest.mark.parametrize(
        "request_bytes",
        [
            pytest.param(get(f"/services?api_token={CLIENT}"), id="a token in the query"),
            pytest.param(get(f"/services?api_token={ADMIN}"), id="a key in the query"),
            pytest.param(get(f"/nowhere/{CLIENT}?api_token={CLIENT}", CLIENT), id="a token everywhere"),
            pytest.param(get("/services", ADMIN), id="a key in the header"),
            pytest.param(
                send("/tickets", ECHO, f'{{"subject":"{ECHO}"}}', f"X-Request-Id: <{ECHO}>"), id="a body"
            ),
        ],
    )
    def test_no_secret_and_no_input_is_logged(
        self, server: Running, wire: Wire, kept: Kept, request_bytes: bytes
    ) -> None:
        wire.send(request_bytes)
        wire.answer()
        turn(server)
        assert any(record.name == "cloudarc.access" for record in kept.records)
        assert not any(secret in kept.text for secret in (CLIENT, ADMIN, ECHO))

    def test_what_is_no_http_is_not_logged(self, server: Running, wire: Wire, kept: Kept) -> None:
        wire.send(f"{ECHO}\r\n\r\n".encode())
        wire.answer()
        turn(server)
        assert ECHO not in kept.text


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def writer_to(descriptor: int) -> tuple[logging.Logger, Writer]:
    writer = Writer(descriptor)
    writer.setFormatter(TextFormatter())
    logger = logging.Logger("cloudarc")
    logger.addHandler(writer)
    return logger, writer


class TestWriter:
    def test_lines_come_whole_and_in_order(self, pipe: tuple[int, int]) -> None:
        logger, writer = writer_to(pipe[1])
        for nth in range(500):
            logger.warning("line %d ü", nth)
        writer.flush()
        lines = os.read(pipe[0], 1 << 16).decode().splitlines()
        assert [line.partition(" warning ")[2] for line in lines] == [f"line {nth} ü" for nth in range(500)]

    def test_a_pipe_that_is_full_blocks_nobody_and_what_is_lost_is_counted(
        self, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "QUEUED", 100)
        logger, writer = writer_to(pipe[1])
        begun = time.monotonic()
        for _ in range(3000):
            logger.warning("x" * 1000)
        assert time.monotonic() - begun < 2
        assert writer.dropped > 2000
        begun = time.monotonic()
        writer.flush()
        assert time.monotonic() - begun < 2 * logs.FLUSH_SECONDS
        # As soon as somebody reads, the rest comes, and with it what is missing.
        text, lost = "", writer.dropped
        os.set_blocking(pipe[0], False)

        def read() -> bool:
            nonlocal text
            try:
                text += os.read(pipe[0], 1 << 16).decode()
            except BlockingIOError:
                logger.warning("again")
            # A line that comes while the rest is still waiting is dropped, too.
            told = sum(map(int, re.findall(r"dropped lines=(\d+)", text)))
            return "again" in text and told == writer.dropped

        until(read)
        assert text.count("x" * 1000) == 3000 - lost

    def test_a_reader_that_has_gone_is_no_reason_to_end(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        logger, writer = writer_to(writing)
        logger.warning("a")
        until(lambda: writer.dropped == 1)
        os.close(writing)

    def test_with_json_an_exception_is_one_line(self, pipe: tuple[int, int]) -> None:
        logger, writer = writer_to(pipe[1])
        writer.setFormatter(JsonFormatter())
        try:
            raise ValueError("bad")
        except ValueError:
            logger.exception("failed")
        writer.flush()
        (line,) = os.read(pipe[0], 1 << 16).decode().splitlines()
        assert json.loads(line)["exception"].endswith("ValueError: bad")


class TestTheListener:
    """It would notice."""

    def test_it_hears_this_suites_servers(self, server: Running, wire: Wire) -> None:
        before = listener.lines
        assert wire.is_usable()
        until(lambda: listener.lines > before)

    @pytest.mark.parametrize(
        "secret",
        [
            CLIENT,
            ADMIN,
            "cbt_" + "a1B2" * 9,
            "arc_" + "a1B2" * 9,
            "whsec_" + "a1B2" * 8,
            "correct horse",
            "GET /services?api_token=x",
            "Authorization: Bearer x",
            "$argon2id$v=19$m=19456",
        ],
    )
    def test_each_kind_of_secret_is_found(self, secret: str) -> None:
        heard = Listener()
        heard.emit(logging.makeLogRecord({"msg": "seen: %s", "args": (secret,), "levelname": "INFO"}))
        heard.emit(logging.makeLogRecord({"msg": "request", "fields": {"caller": secret}}))
        assert len(heard.found) == 2

    def test_what_is_printed_at_the_start_is_no_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        heard = Listener()
        monkeypatch.setattr("tests.support.secret_leak_guard.listener", heard)
        greeting = f"CloudArc serves x\n  client 42  {CLIENT}\n"
        judge_output(greeting + "12:00:00 info request id=1 caller=client:42\n")
        assert heard.found == []
        judge_output(greeting + f"12:00:00 info request id={CLIENT}\n")
        assert len(heard.found) == 1
