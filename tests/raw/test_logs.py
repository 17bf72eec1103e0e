"""What a request leaves in the log: nothing that opens anything."""

import logging
from collections.abc import Iterator

import pytest

from tests.raw.wire import ECHO, Wire, get, send, turn
from tests.running import ADMIN, CLIENT, Running


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
