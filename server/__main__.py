"""The command line. A mistake of the user gets one line and exit status 2."""

import signal

if __name__ == "__main__":
    # Ctrl-C while the imports below take their second ends the process, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import getpass
import logging
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from types import FrameType
from typing import NoReturn, TypeVar

import uvicorn
import uvloop
from uvicorn.supervisors import Multiprocess

from openapi import contract
from persistence import (
    api_keys,
    credentials,
    deliveries,
    demo,
    events,
    idempotency,
    migrations,
    operators,
    tokens,
)
from persistence.database import Connection, Database
from persistence.engines import connect
from persistence.errors import Conflict, Refusal, StartError
from persistence.passwords import MAX_PASSWORD, hashed
from persistence.sealing import Box
from server import app, embedded, environment, logs, metrics
from server.environment import SettingError, Settings
from server.protocol import Protocol
from server.stopping import CALLS_SECONDS, SIGNALS, set_alarm
from webhooks.delivery import Worker


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the result is the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = _parser().parse_args(arguments)
    try:
        for name in ("host", "port", "workers"):
            if getattr(options, name, None) is not None:
                os.environ[f"CLOUDARC_{name.upper()}"] = str(getattr(options, name))
        settings = environment.read()
        options.run(settings, options)
    except (SettingError, StartError, Refusal, contract.ContractError) as error:
        print(f"cloudarc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


T = TypeVar("T")


class OneLine(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            2, f"cloudarc: {message.encode('ascii', 'replace').decode()}; {self.prog} --help tells more.\n"
        )


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= 2**53 - 1):
        raise argparse.ArgumentTypeError("must be the id of a client")
    return int(text)


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 36_500):
        raise argparse.ArgumentTypeError("must be a number of days, from 1 to 36500")
    return int(text)


def _name(text: str) -> str:
    if not (1 <= len(text) <= 100 and text.isprintable()):
        raise argparse.ArgumentTypeError("must have 1 to 100 printable characters")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = OneLine(prog="cloudarc", description="A billing, provisioning and support API.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, run: Callable[[Settings, argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        result = commands.add_parser(name, help=text, description=text)
        result.set_defaults(run=run)
        return result

    each = command("serve", serve, "serve the API")
    each.add_argument("--host", help="the address to listen on (CLOUDARC_HOST)")
    each.add_argument("--port", help="the port to listen on, 0 for any that is free (CLOUDARC_PORT)")
    each.add_argument("--workers", help="how many processes serve (CLOUDARC_WORKERS)")
    command("worker", work, "deliver webhooks until stopped")
    each = command("purge", purge, "delete old events, deliveries and idempotency keys")
    each.add_argument("--days", type=_days, default=30, help="how old they are (default: 30)")
    command("migrate", migrate, "bring the database to the newest state")
    each = command("seed", seed, "fill an empty database")
    each.add_argument("--demo", action="store_true", required=True, help="with the demo data")
    each = command("token", lambda settings, options: None, "API tokens of clients")
    each = _create(each, create_token)
    each.add_argument("--client", type=_id, required=True, help="the id of the client")
    each = command("key", lambda settings, options: None, "API keys of the operator")
    each = _create(each, create_key)
    each.add_argument("--name", type=_name, required=True, help="what the key is for")
    each.add_argument("--scope", action="append", required=True, help="a scope such as invoices:read, or *")
    each = command("operator", lambda settings, options: None, "operators of the panel")
    verbs = each.add_subparsers(required=True, metavar="verb")
    for name, run, text in (
        ("create", create_operator, "make one; the password is asked for, or read from stdin"),
        ("password", change_password, "give one another password, and end all its sessions"),
        ("unlock", unlock_operator, "let one in again after too many wrong passwords"),
    ):
        each = verbs.add_parser(name, help=text, description=text)
        each.add_argument("--name", type=_name, required=True, help="what the operator is called")
        each.set_defaults(run=run)
    verbs.add_parser("list", help="list them").set_defaults(run=list_operators)
    each = command("spec", spec, "print the contract")
    each.add_argument("--audience", choices=contract.AUDIENCES, help="one kind of credential")
    each.add_argument("--format", choices=("yaml", "json"), default="yaml", help="the form (default: yaml)")
    each.add_argument("--version", choices=contract.VERSIONS, default="3.0", help="of OpenAPI (default: 3.0)")
    return parser


def _create(
    parser: argparse.ArgumentParser, run: Callable[[Settings, argparse.Namespace], None]
) -> argparse.ArgumentParser:
    result = parser.add_subparsers(required=True, metavar="create").add_parser(
        "create", help="make one and print it"
    )
    result.set_defaults(run=run)
    return result


# --- serve -------------------------------------------------------------------------------------------


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Prepare the database as far as the environment allows, listen, and serve until stopped."""
    environment.prepare_data_dir(settings)
    logs.set_up(settings)
    with embedded.valkey(settings) as url:
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
        return asyncio.run(_with_database(settings, _seed_if_empty))
    _refuse_pending(settings)
    return asyncio.run(_with_database(settings, _refuse_demo_data))


def _run(settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        "server.app:create",
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
    )
    if settings.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        supervisor = Supervisor(config, sockets=[listener])
        supervisor.run()
        if not supervisor.asked:
            raise StartError("A worker could not start again, so the server has stopped; the log says why.")


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
    """The workers take them when they serve; whoever starts the server should hear now that they cannot."""
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


# --- webhooks ----------------------------------------------------------------------------------------


def work(settings: Settings, options: argparse.Namespace) -> None:
    """Deliver webhooks until stopped; any number of workers may share a PostgreSQL database."""
    environment.prepare_data_dir(settings)
    logs.set_up(settings)
    box = Box(environment.secret_key(settings))

    async def deliver(database: Database) -> None:
        worker = Worker(database, box, private=settings.webhook_private_targets == "on")

        def stop() -> None:
            set_alarm()
            worker.stop()

        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop)
        print("CloudArc delivers webhooks", flush=True)
        await worker.run()

    _refuse_pending(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_with_database(settings, deliver))


PURGED_AT_ONCE = 1000


def purge(settings: Settings, options: argparse.Namespace) -> None:
    """Delete events and deliveries of more than so many days, in batches that keep nobody waiting."""
    old = app.now() - timedelta(days=options.days)

    async def delete(database: Database) -> list[int]:
        totals = []
        old_keys = app.now() - idempotency.LIFETIME
        for each, before in ((deliveries, old), (events, old), (idempotency, old_keys)):
            total = 0
            while True:
                async with database.transaction() as db:
                    done = await each.purge(db, before, PURGED_AT_ONCE)
                total += done
                if done < PURGED_AT_ONCE:
                    break
            totals.append(total)
        return totals

    _refuse_pending(settings)
    done = asyncio.run(_with_database(settings, delete))
    print(f"{done[0]} deliveries and {done[1]} events from before {old:%Y-%m-%d %H:%M:%S} are deleted,")
    print(f"and {done[2]} idempotency keys of more than {idempotency.LIFETIME.days * 24} hours.")


def _refuse_pending(settings: Settings) -> None:
    environment.prepare_data_dir(settings)
    if migrations.pending(settings.database_url):
        raise StartError("The database lacks migrations; run `python -m server migrate` first.")


# --- the database ------------------------------------------------------------------------------------


def migrate(settings: Settings, options: argparse.Namespace) -> None:
    """Run the migrations that the database lacks."""
    environment.prepare_data_dir(settings)
    migrations.upgrade(settings.database_url)


def seed(settings: Settings, options: argparse.Namespace) -> None:
    """Fill an empty database with the demo data."""
    if settings.production:
        raise SettingError("Demo data has credentials that everybody knows; in production there is none.")
    migrate(settings, options)
    asyncio.run(_with_database(settings, demo.seed))


def create_token(settings: Settings, options: argparse.Namespace) -> None:
    """Make an API token for a client and print it alone."""
    secret = credentials.mint("cbt_", secrets.choice)

    async def work(db: Connection) -> None:
        await tokens.create(db, options.client, secret, app.now())

    _write(settings, work)
    print(secret)


def create_key(settings: Settings, options: argparse.Namespace) -> None:
    """Make an API key and print it alone."""
    scopes = sorted({each.scope for each in contract.operations(contract.bundle()) if each.scope})
    unknown = [scope for scope in options.scope if scope != "*" and scope not in scopes]
    if unknown:
        raise SettingError(f"--scope must be one of: *, {', '.join(scopes)}.")
    secret = credentials.mint("arc_", secrets.choice)

    async def work(db: Connection) -> None:
        await api_keys.create(db, options.name, sorted(set(options.scope)), secret, app.now())

    _write(settings, work)
    print(secret)


MIN_PASSWORD = 12


def _password() -> str:
    """The password that somebody types twice, or the first line of stdin where that is no terminal."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != password:
            raise SettingError("The two passwords differ; nothing was done.")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise SettingError(f"The password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters.")
    return password


def create_operator(settings: Settings, options: argparse.Namespace) -> None:
    """Make an operator, who may sign in to the panel."""
    password = _password()

    async def work(db: Connection) -> None:
        await operators.create(db, options.name, await hashed(password), app.now())

    _write(settings, work)
    print(f"{options.name} may sign in at /admin.")


def change_password(settings: Settings, options: argparse.Namespace) -> None:
    """Give an operator another password, which unlocks it and ends all its sessions."""
    password = _password()

    async def work(db: Connection) -> None:
        await operators.set_password(db, options.name, await hashed(password))

    _write(settings, work)
    print(f"{options.name} has a new password; all sessions have ended.")


def unlock_operator(settings: Settings, options: argparse.Namespace) -> None:
    """Let an operator in again."""

    async def work(db: Connection) -> None:
        await operators.unlock(db, options.name)

    _write(settings, work)
    print(f"{options.name} may sign in again.")


def list_operators(settings: Settings, options: argparse.Namespace) -> None:
    """Print all operators."""

    async def work(db: Connection) -> None:
        for each in await operators.everybody(db):
            locked = ", locked" if each.tries >= operators.LOCKED_AT else ""
            print(f"{each.name}  since {each.created_at:%Y-%m-%d}{locked}")

    _write(settings, work)


def _write(settings: Settings, work: Callable[[Connection], Awaitable[None]]) -> None:
    _refuse_pending(settings)

    async def inside(database: Database) -> None:
        async with database.transaction() as db:
            await work(db)

    asyncio.run(_with_database(settings, inside))


async def _with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    database = connect(settings.database_url)
    await database.open()
    try:
        return await work(database)
    finally:
        await database.close()


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


# --- the contract ------------------------------------------------------------------------------------


def spec(settings: Settings, options: argparse.Namespace) -> None:
    """Print the contract, whole or for one audience."""
    rendition = contract.published(options.format, options.audience, options.version)
    try:
        sys.stdout.buffer.write(rendition.body)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Or Python would try again at its end, and tell of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SettingError(f"The contract cannot be written ({error.strerror}).") from error


if __name__ == "__main__":
    sys.exit(main())
