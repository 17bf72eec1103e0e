"""The command line. A mistake of the user gets one line and exit status 2."""

import signal

if __name__ == "__main__":
    # Ctrl-C while all is imported ends the process, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from openapi import contract
from persistence.errors import Refusal, StartError
from server.settings import SettingError, Settings, read_settings


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the result is the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Every file that a command makes is for this user alone.
    os.umask(0o077)
    options = _parser().parse_args(arguments)
    try:
        for name in ("host", "port", "workers"):
            if getattr(options, name, None) is not None:
                os.environ[f"CLOUDARC_{name.upper()}"] = str(getattr(options, name))
        settings = read_settings()
        return _function(options.run)(settings, options) or 0
    except (SettingError, StartError, Refusal, contract.ContractError) as error:
        print(f"cloudarc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


Command = Callable[[Settings, argparse.Namespace], int | None]
"""What a command does; its result is the exit status, None being 0."""


def _function(place: str) -> Command:
    """Import the function of a command, ``module:name`` in ``server.commands``.

    The import takes up to a second. The garbage collector would take a fifth of that and find nothing.
    """
    module, _, name = place.partition(":")
    gc.disable()
    try:
        found: Command = getattr(import_module(f"server.commands.{module}"), name)
        gc.freeze()
    finally:
        gc.enable()
    return found


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


def _operator(text: str) -> str:
    # Imported here, since other commands do not need the libraries behind it.
    from persistence.identity import operator_name

    return _name(operator_name(text))


class Commands:
    """The commands of the command line, and the function of each in ``server.commands``."""

    def __init__(self) -> None:
        self.parser = OneLine(prog="cloudarc", description="A billing, provisioning and support API.")
        self.commands = self.parser.add_subparsers(required=True, metavar="command")

    def add(self, name: str, run: str, text: str) -> argparse.ArgumentParser:
        """Add a command that calls ``run``, ``module:function``."""
        result = self.commands.add_parser(name, help=text, description=text)
        result.set_defaults(run=run)
        return result


def _parser() -> argparse.ArgumentParser:
    commands = Commands()
    _add_processes(commands)
    _add_maintenance(commands)
    _add_credentials(commands)
    _add_operators(commands)
    return commands.parser


def _add_processes(commands: Commands) -> None:
    each = commands.add("serve", "serve:serve", "serve the API")
    each.add_argument("--host", help="the address to listen on (CLOUDARC_HOST)")
    each.add_argument("--port", help="the port to listen on, 0 for any that is free (CLOUDARC_PORT)")
    each.add_argument("--workers", help="how many processes serve (CLOUDARC_WORKERS)")
    commands.add("worker", "serve:work", "deliver webhooks until stopped")


def _add_maintenance(commands: Commands) -> None:
    each = commands.add("purge", "maintenance:purge", "delete old events, deliveries and idempotency keys")
    each.add_argument("--days", type=_days, default=30, help="how old they are (default: 30)")
    text = "copy the whole database to a file, while it is served"
    each = commands.add("backup", "maintenance:backup", text)
    each.add_argument("file", help="where to; it must not exist")
    each = commands.add("restore", "maintenance:restore", "fill an empty database from a backup")
    each.add_argument("file", help="the backup")
    text = "seal secrets anew after CLOUDARC_SECRET_KEY has changed"
    commands.add("reseal", "maintenance:reseal", text)
    commands.add("doctor", "doctor:doctor", "look at all that a server needs, and say what to do")
    commands.add("migrate", "maintenance:migrate", "bring the database to the newest state")
    each = commands.add("seed", "maintenance:seed", "fill an empty database")
    each.add_argument("--demo", action="store_true", required=True, help="with the demo data")
    each = commands.add("spec", "maintenance:spec", "print the contract")
    each.add_argument("--audience", choices=contract.AUDIENCES, help="one kind of credential")
    each.add_argument("--format", choices=("yaml", "json"), default="yaml", help="the form (default: yaml)")
    each.add_argument("--version", choices=contract.VERSIONS, default="3.0", help="of OpenAPI (default: 3.0)")


def _add_credentials(commands: Commands) -> None:
    each = _create(commands.add("token", "", "API tokens of clients"), "credentials:create_token")
    each.add_argument("--client", type=_id, required=True, help="the id of the client")
    each = _create(commands.add("key", "", "API keys of the operator"), "credentials:create_key")
    each.add_argument("--name", type=_name, required=True, help="what the key is for")
    each.add_argument("--scope", action="append", required=True, help="a scope such as invoices:read, or *")


OPERATOR_VERBS = {
    "create": ("create_operator", "make one; the password is asked for, or read from stdin"),
    "password": ("change_password", "give one another password, and end all its sessions"),
    "unlock": ("unlock_operator", "end the delays after failed sign-ins"),
}


def _add_operators(commands: Commands) -> None:
    operator = commands.add("operator", "", "operators of the panel")
    verbs = operator.add_subparsers(required=True, metavar="verb")
    for name, (run, text) in OPERATOR_VERBS.items():
        each = verbs.add_parser(name, help=text, description=text)
        each.add_argument("--name", type=_operator, required=True, help="what the operator is called")
        each.set_defaults(run=f"credentials:{run}")
    verbs.add_parser("list", help="list them").set_defaults(run="credentials:list_operators")


def _create(parser: argparse.ArgumentParser, run: str) -> argparse.ArgumentParser:
    result = parser.add_subparsers(required=True, metavar="create").add_parser(
        "create", help="make one and print it"
    )
    result.set_defaults(run=run)
    return result


if __name__ == "__main__":
    status = main()
    # Python looks for garbage once more before it ends, which would take half a second.
    gc.freeze()
    sys.exit(status)
