"""One server for the whole suite, on SQLite: what is tested here lies before any database."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import new_database
from tests.raw.raw_client import Wire
from tests.support.live_server import Running, prepared, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The demo server."""
    with serving(prepared(new_database("sqlite", tmp_path_factory.mktemp("raw"), None))) as running:
        yield running


@pytest.fixture
def dial(server: Running) -> Iterator[Callable[[], Wire]]:
    """Opens connections to the server, which the end of the test closes."""
    wires: list[Wire] = []

    def opened() -> Wire:
        wires.append(Wire(server.port))
        return wires[-1]

    yield opened
    for wire in wires:
        wire.close()


@pytest.fixture
def wire(dial: Callable[[], Wire]) -> Wire:
    """One connection to the server."""
    return dial()
