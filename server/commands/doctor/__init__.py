"""The command ``doctor``: check all that a server needs, and say what to do."""

import argparse
import asyncio

from server.commands.doctor.database import check_database
from server.commands.doctor.findings import Findings, Level
from server.commands.doctor.machine import check_disk, check_memory, check_port, check_settings
from server.commands.doctor.redis import check_redis
from server.settings import Settings


async def examine(settings: Settings) -> Findings:
    """All findings, each as soon as it is known. Never raises for what it examines."""
    for finding in check_settings(settings):
        yield finding
    for finding in check_disk(settings):
        yield finding
    async for finding in check_redis(settings):
        yield finding
    async for finding in check_database(settings):
        yield finding
    yield check_port(settings)
    for finding in check_memory():
        yield finding


# --- the report --------------------------------------------------------------------------------------


def doctor(settings: Settings, options: argparse.Namespace) -> int:
    """Print all findings, a line each; the exit status is 1 where there is a fault."""
    return 1 if asyncio.run(_report(settings)) else 0


async def _report(settings: Settings) -> int:
    levels: list[Level] = []
    async for each in examine(settings):
        levels.append(each.level)
        advice = f": {each.advice}" if each.advice else ""
        print(f"{each.level:7} {each.subject:11} {each.text}{advice}", flush=True)
    faults, advices = levels.count("fault"), levels.count("advice")
    found = [f"{faults} fault{'s' * (faults != 1)}", f"{advices} piece{'s' * (advices != 1)} of advice"]
    print(", ".join(found) if faults or advices else "all is well")
    return faults
