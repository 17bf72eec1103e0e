"""A receiver of webhooks as a process of its own: it logs what comes, and answers as its path says.

``/ok`` takes everything; ``/hang`` never answers; ``/drip`` and ``/endless`` never end; ``/bomb`` sends a
body that is 1 GiB when unpacked; ``/reset`` cuts the connection; ``/fail`` answers 500.
"""

import asyncio
import json
import sys
import time
import zlib
from pathlib import Path
from typing import TextIO

from aiohttp import web

MEGABYTE = b"\0" * 1024 * 1024


def application(log: TextIO) -> web.Application:
    """The receiver; each request is a line of JSON in ``log``."""

    async def take(request: web.Request) -> web.StreamResponse:
        at = time.time()
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        line = {"at": at, "path": request.path, "headers": headers, "body": body.decode()}
        log.write(json.dumps(line) + "\n")
        log.flush()
        match request.path.split("/")[1]:
            case "hang":
                await asyncio.sleep(3600)
            case "drip" | "endless" as kind:
                return await _stream(request, kind)
            case "bomb":
                return web.Response(body=_bomb(), headers={"Content-Encoding": "gzip"})
            case "reset":
                assert request.transport is not None
                request.transport.abort()
            case "fail":
                return web.Response(status=500, text="no")
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    return app


async def _stream(request: web.Request, kind: str) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" if kind == "drip" else MEGABYTE)
        await asyncio.sleep(0.5 if kind == "drip" else 0)


def _bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(MEGABYTE) for _ in range(1024)), packer.flush()])


async def main(log: Path, address: Path) -> None:
    """Listen on a free port until killed; ``address`` then holds the URL."""
    with log.open("a") as file:
        runner = web.AppRunner(application(file), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        host, port = runner.addresses[0][:2]
        draft = address.with_suffix(".draft")
        draft.write_text(f"http://{host}:{port}")
        draft.rename(address)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
