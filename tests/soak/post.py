"""The bare work of a delivery: POST a body so many times, twenty at once, and print the CPU time."""

import asyncio
import sys
import time
from pathlib import Path

import aiohttp
import uvloop


async def main(url: str, number: int, body: bytes) -> None:
    left = iter(range(number))

    async def work(http: aiohttp.ClientSession) -> None:
        for _ in left:
            async with http.post(url, data=body) as response:
                await response.read()

    async with aiohttp.ClientSession() as http:
        begun = time.process_time()
        await asyncio.gather(*[work(http) for _ in range(20)])
    print(f"CPU {time.process_time() - begun} s", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()))
