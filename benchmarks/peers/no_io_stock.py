"""Stock Connexion on a database that lies in memory, without Redis: what remains is the framework."""

from starlette.types import ASGIApp

from benchmarks.memory import Memory
from benchmarks.peers import options
from benchmarks.peers.stock import stock
from persistence.engines import connect
from server.observe import logs


def create() -> ASGIApp:
    """The app."""
    logs.set_up(options.settings())
    return stock(Memory(connect(options.DATABASE)))
