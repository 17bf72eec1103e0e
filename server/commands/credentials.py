"""The commands that let somebody in: tokens of clients, keys of the operator, operators of the panel."""

import argparse
import getpass
import math
import secrets
import sys
from datetime import datetime

from openapi import contract, loading
from persistence import api_keys, credentials, operators, tokens
from persistence.database import Connection, Row
from persistence.passwords import MAX_PASSWORD, hashed
from server.commands.database import write
from server.process.clock import now
from server.settings import SettingError, Settings


def create_token(settings: Settings, options: argparse.Namespace) -> None:
    """Make an API token for a client and print it alone."""
    secret = credentials.mint("cbt_", secrets.choice)

    async def work(db: Connection) -> None:
        await tokens.create(db, options.client, secret, now())

    write(settings, work)
    print(secret)


def create_key(settings: Settings, options: argparse.Namespace) -> None:
    """Make an API key and print it alone."""
    scopes = sorted({each.scope for each in contract.operations(loading.bundle()) if each.scope})
    unknown = [scope for scope in options.scope if scope != "*" and scope not in scopes]
    if unknown:
        raise SettingError(f"--scope must be one of: *, {', '.join(scopes)}.")
    secret = credentials.mint("arc_", secrets.choice)

    async def work(db: Connection) -> None:
        await api_keys.create(db, options.name, sorted(set(options.scope)), secret, now())

    write(settings, work)
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
        await operators.create(db, options.name, await hashed(password), now())

    write(settings, work)
    print(f"{options.name} may sign in at /admin.")


def change_password(settings: Settings, options: argparse.Namespace) -> None:
    """Give an operator another password, which ends its delays and all its sessions."""
    password = _password()

    async def work(db: Connection) -> None:
        await operators.set_password(db, options.name, await hashed(password))

    write(settings, work)
    print(f"{options.name} has a new password; all sessions have ended.")


def unlock_operator(settings: Settings, options: argparse.Namespace) -> None:
    """End the delays that failed sign-ins have caused for an operator."""

    async def work(db: Connection) -> None:
        await operators.unlock(db, options.name)

    write(settings, work)
    print(f"{options.name} may sign in again.")


def _failed(operator: Row, now: datetime) -> str:
    """Return the recent failed sign-ins of an operator."""
    if operator.failures is None or operator.updated_at <= now - operators.ATTEMPTS_KEPT:
        return ""
    seconds = math.ceil((operator.next_at - now).total_seconds())
    delay = f", a new device is delayed by {seconds} s" if seconds > 0 else ""
    return f", {operator.failures} failed sign-ins{delay}"


def list_operators(settings: Settings, options: argparse.Namespace) -> None:
    """Print all operators."""

    async def work(db: Connection) -> None:
        for each in await operators.all_operators(db):
            print(f"{each.name}  since {each.created_at:%Y-%m-%d}{_failed(each, now())}")

    write(settings, work)
