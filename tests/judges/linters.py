"""Those who judge the documents alone: Spectral, Redocly, openapi-spec-validator."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from openapi import contract, rendering
from tests.clients.running import ROOT, Failure, run

FOLDER = ROOT / "build" / "judges"
SOURCES = Path(__file__).parent
BIN = FOLDER / "node_modules" / ".bin"


def documents() -> Iterator[tuple[str, contract.Version, contract.Audience | None]]:
    """Every form in which the contract is served, with the name of its file."""
    for version in contract.VERSIONS:
        for audience in (None, *contract.AUDIENCES):
            yield file_name(version, audience), version, audience


def file_name(version: contract.Version, audience: contract.Audience | None) -> str:
    """The name of the file of a document."""
    modern = "-3.1" if version == "3.1" else ""
    return f"openapi{modern}" + (f"-{audience}" if audience else "") + ".json"


def write() -> list[Path]:
    """The documents as files, in the bytes that are served."""
    folder = FOLDER / "spec"
    folder.mkdir(parents=True, exist_ok=True)
    for name, version, audience in documents():
        (folder / name).write_bytes(rendering.published("json", audience, version).body)
    return [folder / name for name, _, _ in documents()]


def spectral(files: list[Path]) -> str:
    """Nothing that a rule of .spectral.yaml tells, hints included. Raises Failure."""
    rules = ["--ruleset", ".spectral.yaml", "--fail-severity", "hint"]
    told = run([str(BIN / "spectral"), "lint", *rules, *_relative(files)], ROOT)
    if "No results" not in told:
        raise Failure(f"spectral did not say that there is nothing: {told[:500]}")
    return f"{len(files)} documents, no error, no warning"


def redocly(files: list[Path]) -> str:
    """Nothing that redocly.yaml does not except, warnings included. Raises Failure."""
    told = run(
        [str(BIN / "redocly"), "lint", "--config", "redocly.yaml", "--format", "json", *_relative(files)],
        ROOT,
    )
    if '"errors": 0' not in told or '"warnings": 0' not in told:
        raise Failure(f"redocly lint: {told[:2000]}")
    return f"{len(files)} documents, no error, no warning"


def validator(files: list[Path]) -> str:
    """What openapi-spec-validator finds valid. Raises Failure."""
    run([str(FOLDER / "venv" / "bin" / "openapi-spec-validator"), *_relative(files)], ROOT)
    return f"{len(files)} documents valid"


def _relative(files: list[Path]) -> list[str]:
    return [str(each.relative_to(ROOT)) for each in files]


def write_workflows() -> Path:
    """The Arazzo description beside the documents that it refers to."""
    return Path(shutil.copy(contract.ROOT / "arazzo.yaml", FOLDER / "spec"))
