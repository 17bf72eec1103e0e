"""The recipes of docs/webhooks that verify a delivery, as programs that are run."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# A proxy that the machine knows must not get what goes to this machine.
ENVIRONMENT = os.environ | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
RECIPES = Path(__file__).parents[2] / "docs" / "webhooks"


@dataclass(frozen=True)
class Delivery:
    secret: str
    body: bytes
    id: str
    timestamp: str
    signature: str


Verify = Callable[[Delivery, str], int]


def verifying(*command: str) -> Verify:
    """What runs a recipe on a delivery, by its headers or by its body, and gives the exit status."""

    def verify(given: Delivery, way: str) -> int:
        arguments = [given.id, given.timestamp, given.signature] if way == "headers" else []
        return subprocess.run(
            [*command, *arguments],
            input=given.body,
            env=ENVIRONMENT | {"WEBHOOK_SECRET": given.secret},
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    return verify
