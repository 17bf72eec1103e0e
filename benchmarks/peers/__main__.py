"""Serve one peer, ``python -m benchmarks.peers NAME PORT``: one worker of uvicorn, uvloop and httptools."""

import sys

import uvicorn

if __name__ == "__main__":
    uvicorn.run(
        f"benchmarks.peers.{sys.argv[1]}:create",
        factory=True,
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
    )
