"""What has changed in the contract since it was last published, and whether its version says so.

``python -m tests.contract.growth`` tells; ``changelog`` writes it into CHANGELOG.md; ``publish`` makes the
contract of today the published one, where its version announces what breaks. A break takes a new first number
of ``info.version``; what merely grows takes none. Answers are closed shapes, so a new member of an answer
breaks those who check them; a value may join an enum of answers only where it said so (``x-may-grow``).
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openapi import contract, loading

ROOT = Path(__file__).parents[2]
PUBLISHED = contract.ROOT / "published.json"
CHANGELOG = ROOT / "CHANGELOG.md"
MARKS = ("<!-- contract -->", "<!-- /contract -->")

Way = Literal["in", "out"]
# Keywords that bound a value, and whether a larger number admits more.
BOUNDS = {
    "maximum": True,
    "maxLength": True,
    "maxItems": True,
    "maxProperties": True,
    "minimum": False,
    "minLength": False,
    "minItems": False,
    "minProperties": False,
}


@dataclass(frozen=True, order=True)
class Change:
    """One difference, as a sentence; ``breaks`` where somebody's code may fail of it."""

    breaks: bool
    text: str


class _Comparison:
    """Two documents, old and new, compared from their operations down."""

    def __init__(self, old: contract.Document, new: contract.Document) -> None:
        self.old, self.new = old, new
        self.seen: set[tuple[str, str, Way]] = set()

    def changes(self) -> Iterator[Change]:
        if [each["url"] for each in self.old["servers"]] != [each["url"] for each in self.new["servers"]]:
            yield Change(True, "The address below which everything lies has changed.")
        yield from self.operations("Operation", "in", contract.operations)
        yield from self.operations("Webhook", "out", contract.webhooks)

    def operations(
        self, what: str, way: Way, listed: Callable[[contract.Document], Iterator[contract.Operation]]
    ) -> Iterator[Change]:
        old, new = (
            {(each.path, each.method): each for each in listed(side)} for side in (self.old, self.new)
        )
        for key in sorted(old.keys() - new.keys()):
            yield Change(True, f"{what} `{old[key].id}` is gone.")
        for key in sorted(new.keys() - old.keys()):
            yield Change(False, f"{what} `{new[key].id}` is new.")
        for key in sorted(old.keys() & new.keys()):
            yield from self.operation(old[key], new[key], way)

    def operation(self, old: contract.Operation, new: contract.Operation, way: Way) -> Iterator[Change]:
        where = f"`{old.id}`"
        if old.id != new.id:
            yield Change(True, f"{where} is called `{new.id}`.")
        if new.spec.get("deprecated") and not old.spec.get("deprecated"):
            yield Change(False, f"{where} is deprecated; it ends on {new.spec.get('x-sunset')}.")
        schemes = [{name for each in side.spec["security"] for name in each} for side in (old, new)]
        if (schemes[0] - schemes[1]) or (not schemes[0] and schemes[1]):
            yield Change(True, f"{where} admits fewer credentials.")
        if new.scope != old.scope:
            yield Change(new.scope is not None, f"{where} needs the scope {new.scope}.")
        yield from self.parameters(old, new, way)
        yield from self.body(old, new, way)
        answers = [side.spec["responses"] for side in (old, new)]
        for status in sorted(answers[0].keys() - answers[1].keys()):
            yield Change(True, f"{where} answers {status} no more.")
        for status in sorted(answers[1].keys() - answers[0].keys()):
            yield Change(status.startswith("2"), f"{where} may answer {status}.")
        for status in sorted(answers[0].keys() & answers[1].keys()):
            yield from self.answer(old, new, status)

    def parameters(self, old: contract.Operation, new: contract.Operation, way: Way) -> Iterator[Change]:
        sides = []
        for document, operation in ((self.old, old), (self.new, new)):
            found = [contract.deref(document, each) for each in operation.spec.get("parameters", [])]
            sides.append({(each["in"], each["name"]): each for each in found})
        before, after = sides
        for key in sorted(before.keys() - after.keys()):
            yield Change(True, f"`{old.id}`: the {key[0]} parameter {key[1]} is gone.")
        for key in sorted(after.keys() - before.keys()):
            needed = after[key].get("required", False)
            yield Change(needed, f"`{old.id}`: there is a new {key[0]} parameter {key[1]}.")
        for key in sorted(before.keys() & after.keys()):
            where = f"`{old.id}`: the {key[0]} parameter {key[1]}"
            if after[key].get("required", False) and not before[key].get("required", False):
                yield Change(way == "in", f"{where} is required.")
            yield from self.schema(before[key]["schema"], after[key]["schema"], way, where)

    def body(self, old: contract.Operation, new: contract.Operation, way: Way) -> Iterator[Change]:
        before, after = (side.spec.get("requestBody") for side in (old, new))
        where = f"`{old.id}`: the body"
        if before is None:
            if after is not None:
                yield Change(after.get("required", False), f"{where} is new.")
            return
        if after is None:
            yield Change(True, f"{where} is gone.")
            return
        if after.get("required", False) and not before.get("required", False):
            yield Change(True, f"{where} is required.")
        yield from self.content(before, after, way, where)

    def answer(self, old: contract.Operation, new: contract.Operation, status: str) -> Iterator[Change]:
        before = contract.deref(self.old, old.spec["responses"][status])
        after = contract.deref(self.new, new.spec["responses"][status])
        where = f"`{old.id}` {status}"
        headers = before.get("headers", {}), after.get("headers", {})
        for name in sorted(headers[0].keys() - headers[1].keys()):
            yield Change(True, f"{where} has no header {name} any more.")
        for name in sorted(headers[1].keys() - headers[0].keys()):
            yield Change(False, f"{where} has a new header {name}.")
        for name in sorted(headers[0].keys() & headers[1].keys()):
            sides = contract.deref(self.old, headers[0][name]), contract.deref(self.new, headers[1][name])
            if sides[0].get("required") and not sides[1].get("required"):
                yield Change(True, f"{where}: the header {name} may be absent.")
            yield from self.schema(sides[0]["schema"], sides[1]["schema"], "out", f"{where}: {name}")
        yield from self.content(before, after, "out", where)

    def content(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        before, after = old.get("content", {}), new.get("content", {})
        for kind in sorted(before.keys() ^ after.keys()):
            yield Change(kind in before, f"{where}: {kind} is {'gone' if kind in before else 'new'}.")
        for kind in sorted(before.keys() & after.keys()):
            yield from self.schema(before[kind]["schema"], after[kind]["schema"], way, where)

    def schema(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        if "$ref" in old and "$ref" in new:
            names = old["$ref"].rpartition("/")[2], new["$ref"].rpartition("/")[2]
            if (*names, way) in self.seen:
                return
            self.seen.add((*names, way))
            where = f"`{names[0]}`"
            if names[0] != names[1]:
                yield Change(True, f"{where} is called `{names[1]}`.")
        old, new = contract.deref(self.old, old), contract.deref(self.new, new)
        for keyword in ("type", "format", "multipleOf", "x-dialect"):
            if old.get(keyword) != new.get(keyword):
                yield Change(True, f"{where}: {keyword} is {new.get(keyword)}, was {old.get(keyword)}.")
        yield from self.values(old, new, way, where)
        yield from self.members(old, new, way, where)
        if "items" in old and "items" in new:
            yield from self.schema(old["items"], new["items"], way, f"{where}[]")
        yield from self.branches(old, new, way, where)

    def values(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        if old.get("nullable", False) != new.get("nullable", False):
            gained = new.get("nullable", False)
            yield Change(gained == (way == "out"), f"{where} may {'' if gained else 'not '}be null.")
        for keyword, larger_admits_more in BOUNDS.items():
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            wider = after is None or (before is not None and (after > before) == larger_admits_more)
            yield Change(wider == (way == "out"), f"{where}: {keyword} is {after}, was {before}.")
        if old.get("pattern") != new.get("pattern"):
            # Of two patterns nobody knows which admits more.
            one_way = new.get("pattern") is None if way == "in" else old.get("pattern") is None
            yield Change(not one_way, f"{where}: the pattern has changed.")
        if old.get("not") != new.get("not"):
            one_way = new.get("not") is None if way == "in" else old.get("not") is None
            yield Change(not one_way, f"{where}: what it must not contain has changed.")
        before, after = old.get("enum"), new.get("enum")
        if before is None or after is None:
            if before != after:
                narrower = before is None
                yield Change(
                    narrower == (way == "in"), f"{where} is {'' if narrower else 'no longer '}one of a list."
                )
            return
        for value in [each for each in before if each not in after]:
            yield Change(way == "in", f"{where} has no value {value} any more.")
        for value in [each for each in after if each not in before]:
            yield Change(way == "out" and not old.get("x-may-grow"), f"{where} has a new value {value}.")

    def members(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        required = set(old.get("required", [])), set(new.get("required", []))
        for name in sorted(before.keys() - after.keys()):
            yield Change(True, f"{where} has no member {name} any more.")
        for name in sorted(after.keys() - before.keys()):
            needed = name in required[1]
            word = "required " if needed and way == "in" else ""
            yield Change(way == "out" or needed, f"{where} has a new {word}member {name}.")
        for name in sorted(before.keys() & after.keys()):
            if name in required[1] - required[0]:
                yield Change(way == "in", f"{where}.{name} is required.")
            if name in required[0] - required[1]:
                yield Change(way == "out", f"{where}.{name} may be absent.")
            yield from self.schema(before[name], after[name], way, f"{where}.{name}")
        if old.get("additionalProperties") != new.get("additionalProperties"):
            closed = new.get("additionalProperties") is False
            yield Change(closed == (way == "in"), f"{where} is {'closed' if closed else 'open'}.")

    def branches(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        before, after = ({each["$ref"]: each for each in side.get("oneOf", [])} for side in (old, new))
        for name in [each for each in before if each not in after]:
            yield Change(way == "in", f"{where} is no `{name.rpartition('/')[2]}` any more.")
        for name in [each for each in after if each not in before]:
            grows = old.get("x-may-grow")
            yield Change(
                not before or (way == "out" and not grows), f"{where} may be a `{name.rpartition('/')[2]}`."
            )
        for name in [each for each in before if each in after]:
            yield from self.schema(before[name], after[name], way, where)


def compare(old: contract.Document, new: contract.Document) -> list[Change]:
    """All changes from one bundle to another, what breaks first."""
    return sorted(set(_Comparison(old, new).changes()), key=lambda each: (not each.breaks, each.text))


def number(document: contract.Document) -> tuple[int, ...]:
    """The version of a contract, as numbers."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", document["info"]["version"])
    if found is None:
        raise ValueError(f"info.version is not three numbers: {document['info']['version']}")
    return tuple(int(each) for each in found.groups())


def unannounced(old: contract.Document, new: contract.Document) -> list[str]:
    """The breaks that the version does not announce, and a version that goes back."""
    if number(new) < number(old):
        return [f"info.version is {new['info']['version']}, after {old['info']['version']}."]
    if number(new)[0] > number(old)[0]:
        return []
    return [each.text for each in compare(old, new) if each.breaks]


def published() -> contract.Document:
    """The contract of the last release."""
    return dict(json.loads(PUBLISHED.read_text()))


def section(old: contract.Document, new: contract.Document) -> str:
    """What the changelog says between its marks."""
    found = compare(old, new)
    version = old["info"]["version"]
    if not found:
        return f"Nothing has changed since the published contract {version}.\n"
    return f"Since the published contract {version}:\n\n" + "".join(
        f"- {'**Breaks.** ' if each.breaks else ''}{each.text}\n" for each in found
    )


def written(text: str, between: str) -> str:
    """A changelog whose section of the contract is this one."""
    head, rest = text.split(MARKS[0])
    _, tail = rest.split(MARKS[1])
    return f"{head}{MARKS[0]}\n{between}{MARKS[1]}{tail}"


def main(arguments: list[str]) -> int:
    """The command line; the result is the exit status."""
    new = loading.bundle()
    if arguments not in ([], ["changelog"], ["publish"]):
        print("growth: say nothing, `changelog` or `publish`.", file=sys.stderr)
        return 2
    # Before the first release nothing is promised.
    old = published() if PUBLISHED.exists() else new
    breaks = unannounced(old, new)
    if breaks and arguments == ["publish"]:
        print(*breaks, "Give info.version a new first number.", sep="\n", file=sys.stderr)
        return 1
    if arguments == ["publish"]:
        PUBLISHED.write_text(json.dumps(new, ensure_ascii=False, indent=1) + "\n")
    if arguments:
        CHANGELOG.write_text(written(CHANGELOG.read_text(), section(published(), new)))
    print(section(old, new), end="")
    return 1 if breaks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
