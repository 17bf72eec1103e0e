"""``make postman``: the contract as collections that Postman imports, in build/postman.

They call http://127.0.0.1:8080 with the demo's credentials, which are variables of the collection; each
request has a test that it succeeds.
"""

import json
import sys
from pathlib import Path
from shutil import which
from typing import Any

from openapi import contract
from persistence import demo
from tests.clients.running import ROOT, Failure, install_npm, run
from tests.judges.linters import BIN, FOLDER, SOURCES, write

TARGET = ROOT / "build" / "postman"
SECRETS = {"client": demo.CLIENT_TOKEN, "admin": demo.ADMIN_KEY}
OPTIONS = "parametersResolution=Example,folderStrategy=Tags,enableOptionalParameters=false"
TEST = [
    'pm.test("It succeeds.", () => pm.expect(pm.response.code, pm.response.text()).to.be.within(200, 299));',
]


def export(audience: contract.Audience) -> Path:
    """The file of a collection. Raises Failure."""
    TARGET.mkdir(parents=True, exist_ok=True)
    file = TARGET / f"cloudarc-{audience}.postman_collection.json"
    source = FOLDER / "spec" / f"openapi-{audience}.json"
    run([str(BIN / "openapi2postmanv2"), "-s", str(source), "-o", str(file), "-O", OPTIONS], ROOT)
    file.write_text(json.dumps(finished(json.loads(file.read_text()), audience), indent=1) + "\n")
    return file


def finished(collection: dict[str, Any], audience: contract.Audience) -> dict[str, Any]:
    """A collection with its variables and its test, without addresses of this machine."""
    variables = {"baseUrl": "http://127.0.0.1:8080/api/v1", "bearerToken": SECRETS[audience]}
    collection["info"]["name"] = f"CloudArc, {audience}"
    return collection | {
        "variable": [{"key": key, "value": value, "type": "string"} for key, value in variables.items()],
        "event": [{"listen": "test", "script": {"type": "text/javascript", "exec": TEST}}],
    }


def main() -> int:
    """Write both; the result is the exit status."""
    if which("npm") is None:
        print("postman: npm is missing: install the Debian package npm", file=sys.stderr)
        return 2
    try:
        install_npm(FOLDER, SOURCES)
        write()
        for audience in contract.AUDIENCES:
            print(export(audience).relative_to(ROOT))
    except Failure as failure:
        print(f"postman: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
