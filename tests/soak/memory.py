"""Memory: what a server has after ten thousand requests it has after a hundred thousand, and after 60 MB."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil

from persistence import demo
from tests.soak.processes import ADMIN, Process, server, settings
from tests.soak.webhooks import TICKET, Figure

SIZE = 60 * 1024 * 1024

CALLS = [
    ("GET", "/services", demo.CLIENT_TOKEN),
    ("GET", "/invoices?limit=100", ADMIN),
    ("POST", "/tickets", ADMIN),
    ("GET", "/knowledgebase?q=dns", demo.CLIENT_TOKEN),
    ("GET", "/nowhere", None),
    ("GET", "/services", "cbt_wrong"),
]


async def stay_flat(folder: Path, database_url: str, *, warm: int, requests: int) -> list[Figure]:
    """Call until ``warm`` and then until ``requests`` calls have been made; then send 60 MB."""
    with server(folder, settings(folder, database_url)) as (process, base):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as http:
            await _call(http, base, warm)
            before = _memory(process)
            await _call(http, base, requests - warm)
            after = _memory(process)
            headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
            async with http.post(f"{base}/tickets", data=_large(), headers=headers) as answer:
                status = answer.status
            large = _memory(process)
    return [
        _flat(f"memory from request {warm:,} to {requests:,}, ± 10 %", before, after),
        _flat("memory after a body of 60 MB, ± 10 %", before, large),
        Figure("that body is answered", str(status), status == 413),
    ]


async def _call(http: aiohttp.ClientSession, base: str, number: int) -> None:
    left = iter(range(number))

    async def work() -> None:
        for nth in left:
            method, path, secret = CALLS[nth % len(CALLS)]
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            body = TICKET if method == "POST" else None
            async with http.request(method, base + path, json=body, headers=headers) as answer:
                await answer.read()
                assert answer.status in (200, 201, 401, 404), (path, answer.status)

    await asyncio.gather(*[work() for _ in range(16)])


async def _large() -> AsyncIterator[bytes]:
    for _ in range(SIZE // 65536):
        yield b" " * 65536


def _memory(process: Process) -> int:
    return int(psutil.Process(process.pid).memory_info().rss)


def _flat(name: str, before: int, after: int) -> Figure:
    value = f"{after / before:.3f} × ({before / 2**20:.0f} → {after / 2**20:.0f} MiB)"
    return Figure(name, value, 0.9 <= after / before <= 1.1)
