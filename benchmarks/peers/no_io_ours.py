"""CloudArc's app on a database that lies in memory, without Redis: what remains is the framework."""

from starlette.types import ASGIApp

from benchmarks.memory import Memory
from benchmarks.peers import options
from openapi import loading
from persistence.engines import connect
from server.app import assemble
from server.observe import logs


def create() -> ASGIApp:
    """The app."""
    logs.set_up(options.settings())
    return assemble(Memory(connect(options.DATABASE)), loading.bundle()).edge
