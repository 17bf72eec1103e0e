"""Those who judge a server that runs: Postman's newman, Redocly's respect, Prism, and openapi-core."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import yaml

from openapi import contract, loading, projection
from persistence import demo
from tests.clients import running
from tests.clients.generators import CLIENTS, SOURCES
from tests.clients.running import ROOT, Failure, Target, run
from tests.judges import linters, postman
from tests.judges.linters import BIN, FOLDER
from tests.judges.recorder import recording
from tests.soak import processes

SECRETS = {"client": demo.CLIENT_TOKEN, "admin": demo.ADMIN_KEY}
SPEC = FOLDER / "spec"


@contextmanager
def server(name: str) -> Iterator[tuple[str, str, Path]]:
    """A fresh server with demo data, without limits: its address, a receiver's, and where calls are kept."""
    folder = FOLDER / "data" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    given = processes.settings(folder, "", WEBHOOK_WORKER="inline")
    del given["CLOUDARC_DATABASE_URL"]
    record = FOLDER / f"{name}.jsonl"
    with (
        processes.receiver(folder) as (receiver, _),
        processes.server(folder, given) as (_, url),
        recording(url, record) as address,
    ):
        yield address, receiver, record


def newman() -> str:
    """Every request of both Postman collections succeeds on a fresh server. Raises Failure."""
    count = 0
    for audience in contract.AUDIENCES:
        with server(f"newman-{audience}") as (url, _, _):
            file = postman.export(audience)
            report = FOLDER / f"newman-{audience}.json"
            variables = ["--env-var", f"baseUrl={url}", "--env-var", f"bearerToken={SECRETS[audience]}"]
            reporter = ["--reporters", "json", "--reporter-json-export", str(report), "--suppress-exit-code"]
            run([str(BIN / "newman"), "run", str(file), *variables, *reporter], ROOT)
            told = json.loads(report.read_text())["run"]
            for failure in told["failures"]:
                raise Failure(f"{failure['source'].get('name')}: {failure['error']['message']}")
            wanted = len(list(contract.operations(projection.project(loading.bundle(), audience))))
            if len(told["executions"]) != wanted:
                raise Failure(f"{len(told['executions'])} requests for {wanted} operations of {audience}")
            count += wanted
    return f"{count} requests of two collections succeed"


@contextmanager
def prism(url: str, document: Path = SPEC / "openapi.json", *options: str) -> Iterator[tuple[str, Path]]:
    """The address of a Prism that watches a server, and what it tells."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = FOLDER / "prism.log"
    with log.open("w") as out:
        command = [str(BIN / "prism"), "proxy", *options, str(document), url, "--port", str(port)]
        process = subprocess.Popen(command, cwd=FOLDER, stdout=out, stderr=out, env=running.environment())
    try:
        processes.until(lambda: "Prism is listening" in log.read_text(), 60, "prism")
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait(20)


def watched_story() -> str:
    """A generated client tells its story through Prism. Raises Failure.

    Prism may tell of nothing but the two requests that the story makes wrong on purpose; without them it
    would not be known that it looks.
    """
    (client,) = (each for each in CLIENTS if each.name == "openapi_typescript")
    running.install_npm(running.FOLDER, SOURCES)
    data = FOLDER / "data" / "prism"
    shutil.rmtree(data, ignore_errors=True)
    with (
        running.servers(data) as target,
        recording(target.url, FOLDER / "prism.jsonl") as address,
        prism(address) as (url, log),
    ):
        result = running.try_out(
            client, Target(url, target.limited, target.delivery), running.FOLDER / "watched"
        )
        if result.problems:
            raise Failure("\n".join(result.problems))
        told = log.read_text()
    calls = re.split(r"\[HTTP SERVER\] ", told)[1:]
    wrong = [call for call in calls if "Violation" in call]
    if any("Violation: response" in call for call in wrong):
        raise Failure("Prism: " + next(call for call in wrong if "Violation: response" in call))
    if [call.split(" \x1b")[0].split("\x1b")[0].split()[:2] for call in wrong] != [
        ["post", "/tickets"],
        ["post", "/invoices"],
    ]:
        raise Failure(f"Prism: {len(wrong)} requests: {''.join(wrong)[:3000]}")
    return f"{len(calls)} calls of a story; nothing but the 2 requests that are wrong on purpose"


def respect() -> str:
    """The five workflows run on a fresh server. Raises Failure."""
    workflows = linters.write_workflows()
    run([str(BIN / "redocly"), "lint", "--config", "redocly.yaml", str(workflows.relative_to(ROOT))], ROOT)
    report = FOLDER / "respect.json"
    with server("respect") as (url, receiver, _):
        inputs = {"client_token": demo.CLIENT_TOKEN, "api_key": demo.ADMIN_KEY, "receiver": receiver}
        inputs["email"] = f"robin.{time.time_ns()}@example.com"
        command = [str(BIN / "redocly"), "respect", str(workflows.relative_to(ROOT))]
        command += ["--input", json.dumps(inputs), "-J", str(report)]
        command += ["--server", f"admin={url}", "--server", f"client={url}"]
        run(command, ROOT)
    told = json.loads(report.read_text())
    (file,) = told["files"].values()
    passed = [each for each in file["executedWorkflows"] if each["status"] == "success"]
    wanted = len(yaml.safe_load(workflows.read_text())["workflows"])
    if len(passed) != wanted:
        raise Failure(f"respect: {len(passed)} of {wanted} workflows succeed")
    return f"{wanted} workflows, {file['totalRequests']} calls"


def openapi_core() -> str:
    """What the others have sent and got, judged once more. Raises Failure."""
    script = os.fspath(linters.SOURCES / "traffic.py")
    return run([str(FOLDER / "venv" / "bin" / "python"), script, *_traffic()], ROOT).strip()


def chai() -> str:
    """The answers that the others got, judged by chai-openapi-response-validator. Raises Failure."""
    script = shutil.copy(linters.SOURCES / "answers.cjs", FOLDER)
    return run(["node", os.fspath(script), *_traffic()], ROOT).strip()


def _traffic() -> list[str]:
    """A file of all exchanges, the documents that they are held to, and the credentials in them."""
    record = FOLDER / "traffic.jsonl"
    kept = [FOLDER / f"{name}.jsonl" for name in ("newman-client", "newman-admin", "respect", "prism")]
    record.write_text("".join(each.read_text() for each in kept if each.exists()))
    files = [str(SPEC / f"openapi-{audience}.json") for audience in contract.AUDIENCES]
    return [str(record), *files, demo.CLIENT_TOKEN, demo.ADMIN_KEY]
