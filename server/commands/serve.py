"""The commands that run until they are stopped: ``serve`` and ``worker``."""

import argparse
import asyncio
import logging
import os
import signal
import socket
from contextlib import suppress
from types import FrameType

import uvicorn
import uvloop
from uvicorn.supervisors import Multiprocess

from persistence import demo, migrations
from persistence.database import Database
from persistence.errors import Conflict, StartError
from persistence.sealing import Box
from server import app
from server.commands.database import refuse_pending, with_database
from server.http.protocol import Protocol
from server.observe import logs, metrics
from server.process import embedded_valkey
from server.process.shutdown import CALLS_SECONDS, SIGNALS, set_alarm
from server.settings import SettingError, Settings, prepare_data_dir, secret_key
from webhooks.delivery import Worker


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Prepare the database as far as the environment allows, listen, and serve until stopped."""
    prepare_data_dir(settings)
    logs.set_up(settings)
    with embedded_valkey.valkey(settings) as url:
        # Where the app reads it, in this process and in workers.
        os.environ["CLOUDARC_REDIS_URL"] = url
        demo_data = _prepare_database(settings)
        listener = _listen(settings)
        _check_metrics_ports(settings)
        _greet(settings, listener, demo_data=demo_data)
        _run(settings, listener)


def _prepare_database(settings: Settings) -> bool:
    """Bring it to where it can be served; whether there is demo data. Raises StartError."""
    if not settings.production:
        migrations.upgrade(settings.database_url)
        return asyncio.run(with_database(settings, _seed_if_empty))
    refuse_pending(settings)
    return asyncio.run(with_database(settings, _refuse_demo_data))


def _run(settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app.create,
        factory=True,
        http=Protocol,
        ws="none",
        lifespan="on",
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=CALLS_SECONDS,
        # One that does not answer its supervisor is replaced; on a busy machine it may still be starting.
        timeout_worker_healthcheck=30,
    )
    if settings.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        supervisor = Supervisor(config, sockets=[listener])
        supervisor.run()
        if not supervisor.asked:
            raise StartError("A worker process could not restart, so the server stopped; see the log.")


class Supervisor(Multiprocess):
    """Tells the workers at once that they are to stop, and knows whether it was asked to or gave up."""

    asked = False

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in SIGNALS:
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # It may be asking a worker how it is, and would notice seconds later.
        self.asked = True
        set_alarm()
        for each in self.processes:
            with suppress(ProcessLookupError):
                if each.process.is_alive() and each.pid:
                    os.kill(each.pid, signal.SIGTERM)
        self.signal_queue.append(number)

    def terminate_all(self) -> None:
        # Else the kernel would take connections that nobody serves any more.
        for each in self.sockets:
            each.close()
        super().terminate_all()


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # From here on callers wait instead of being refused, so what is printed next is true.
        listener.listen(2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "this is no host"
        raise SettingError(
            f"Cannot listen on {ascii(settings.host)[1:-1]}:{settings.port} ({reason}); "
            "stop what uses it, or choose another CLOUDARC_HOST or CLOUDARC_PORT."
        ) from error
    listener.set_inheritable(True)
    return listener


def _check_metrics_ports(settings: Settings) -> None:
    """Check the ports at the start, since the workers bind them later."""
    for port in settings.metrics_ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((metrics.HOST, port))
                probe.listen()
            except OSError as error:
                raise SettingError(
                    f"Cannot listen on {metrics.HOST}:{port} ({error.strerror}); "
                    "stop what uses it, or choose another CLOUDARC_METRICS_PORT."
                ) from error


def _greet(settings: Settings, listener: socket.socket, *, demo_data: bool) -> None:
    host, port = listener.getsockname()[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}/api/v1"
    lines = [f"CloudArc serves {base}", f"  docs       {base}/docs"]
    lines += [f"  panel      {base.removesuffix('/api/v1')}/admin"]
    if settings.log_format == "json":
        logging.getLogger("cloudarc").info("serving", extra={"fields": {"address": base}})
        return
    if demo_data:
        lines += [
            f"  client 42  {demo.CLIENT_TOKEN}",
            f"  client 43  {demo.OTHER_CLIENT_TOKEN}",
            f"  admin key  {demo.ADMIN_KEY}",
            f"  operator   {demo.OPERATOR}, password {demo.OPERATOR_PASSWORD}",
            f'  try        curl -H "Authorization: Bearer {demo.CLIENT_TOKEN}" {base}/services',
        ]
    print("\n".join(lines), flush=True)


async def _seed_if_empty(database: Database) -> bool:
    """Seed an empty database; whether there is demo data then."""
    async with database.reading() as db:
        empty = await demo.empty(db)
    if empty:
        # Of two servers that start on one empty database the other may have been quicker.
        with suppress(Conflict):
            await demo.seed(database)
    async with database.reading() as db:
        return await demo.present(db)


async def _refuse_demo_data(database: Database) -> bool:
    async with database.reading() as db:
        if await demo.present(db):
            raise StartError(
                "The database has demo data, whose credentials everybody knows; use an empty one."
            )
    return False


def work(settings: Settings, options: argparse.Namespace) -> None:
    """Deliver webhooks until stopped; any number of workers may share a PostgreSQL database."""
    prepare_data_dir(settings)
    logs.set_up(settings)
    box = Box(secret_key(settings), settings.other_secret_key)

    async def deliver(database: Database) -> None:
        worker = Worker(database, box, private=settings.webhook_private_targets == "on")

        def stop() -> None:
            set_alarm()
            worker.stop()

        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop)
        print("CloudArc delivers webhooks", flush=True)
        await worker.run()

    refuse_pending(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_database(settings, deliver))
