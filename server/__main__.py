"""The command line. A mistake of the user gets one line and exit status 2."""

import argparse
import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable

import uvicorn
from uvicorn.supervisors import Multiprocess

from openapi import contract
from persistence import api_keys, credentials, demo, migrations, tokens
from persistence.database import Connection, Database
from persistence.engines import connect
from persistence.errors import Refusal, StartError
from server import app, environment, logs
from server.environment import SettingError, Settings
from server.protocol import Protocol


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the result is the exit status."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloudarc", description="A billing, provisioning and support API.")
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
    command("migrate", migrate, "bring the database to the newest state")
    each = command("seed", seed, "fill an empty database")
    each.add_argument("--demo", action="store_true", required=True, help="with the demo data")
    each = command("token", lambda settings, options: None, "API tokens of clients")
    each = _create(each, create_token)
    each.add_argument("--client", type=int, required=True, help="the id of the client")
    each = command("key", lambda settings, options: None, "API keys of the operator")
    each = _create(each, create_key)
    each.add_argument("--name", required=True, help="what the key is for")
    each.add_argument("--scope", action="append", required=True, help="a scope such as invoices:read, or *")
    each = command("spec", spec, "print the contract")
    each.add_argument("--audience", choices=contract.AUDIENCES, help="one kind of credential")
    each.add_argument("--format", choices=("yaml", "json"), default="yaml", help="the form (default: yaml)")
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
    if not settings.production:
        migrations.upgrade(settings.database_url)
        asyncio.run(_with_database(settings, _seed_if_empty))
    elif migrations.pending(settings.database_url):
        raise StartError("The database lacks migrations; run `python -m server migrate` first.")
    listener = _listen(settings)
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
        timeout_graceful_shutdown=8,
    )
    _greet(settings, listener)
    if settings.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        Multiprocess(config, sockets=[listener]).run()


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
    except OSError as error:
        raise SettingError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            "stop what uses it, or choose another CLOUDARC_HOST or CLOUDARC_PORT."
        ) from error
    listener.set_inheritable(True)
    return listener


def _greet(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}/api/v1"
    lines = [f"CloudArc serves {base}", f"  docs       {base}/docs"]
    if not settings.production:
        lines += [
            f"  client 42  {demo.CLIENT_TOKEN}",
            f"  client 43  {demo.OTHER_CLIENT_TOKEN}",
            f"  admin key  {demo.ADMIN_KEY}",
            f'  try        curl -H "Authorization: Bearer {demo.CLIENT_TOKEN}" {base}/services',
        ]
    print("\n".join(lines), flush=True)


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
        await api_keys.create(db, options.name, options.scope, secret, app.now())

    _write(settings, work)
    print(secret)


def _write(settings: Settings, work: Callable[[Connection], Awaitable[None]]) -> None:
    environment.prepare_data_dir(settings)
    if migrations.pending(settings.database_url):
        raise StartError("The database lacks migrations; run `python -m server migrate` first.")

    async def inside(database: Database) -> None:
        async with database.transaction() as db:
            await work(db)

    asyncio.run(_with_database(settings, inside))


async def _with_database(settings: Settings, work: Callable[[Database], Awaitable[None]]) -> None:
    database = connect(settings.database_url)
    await database.open()
    try:
        await work(database)
    finally:
        await database.close()


async def _seed_if_empty(database: Database) -> None:
    async with database.reading() as db:
        empty = await demo.empty(db)
    if empty:
        await demo.seed(database)


# --- the contract ------------------------------------------------------------------------------------


def spec(settings: Settings, options: argparse.Namespace) -> None:
    """Print the contract, whole or for one audience."""
    sys.stdout.buffer.write(contract.published(options.format, options.audience).body)


if __name__ == "__main__":
    sys.exit(main())
