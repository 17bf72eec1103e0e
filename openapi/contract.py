"""The contract as one document: loaded, bundled, projected to one audience, and listed.

Everything here is a pure function of the files beside this module: no HTTP, no database. A document
is a plain dict in the shape of OpenAPI 3.0.3; ``modernise`` says the same in 3.1. What the files may
use beyond OpenAPI:

- ``x-dialect`` on a schema, parameter, response, example, link or security scheme: only that
  audience meets it. A ``oneOf`` whose branches all carry it is a choice by the caller, not by the data.
- ``x-scope`` on an operation: the scope that an API key needs for it. Its description says so by itself.
- ``x-description`` beside a description: by audience, the text for that audience alone. The bundle adds all
  of them to the description; a projection keeps its own.
- ``x-ends-credentials`` on an operation: tokens or keys are dead after it, which all must know.
- ``x-list`` on a header parameter: it may stand in several lines, which are joined by commas (RFC 9110).
- ``x-expects`` on a schema: the end of the sentence "The amount field must be …".
- ``x-text`` on a string: ``any``, ``line``, ``lines`` or ``name``. The bundle says in ``not`` which
  characters such a text must not contain. The server holds input to that, and answers with what older
  versions stored.
- ``x-pattern`` on a string: a ``pattern`` for the server's validators alone. Generated clients hold a
  ``format: date-time`` value to a ``pattern`` after they made a date of it, and fail.
- ``x-also-accepts`` on a schema: another schema whose values the server accepts as well. Generators cannot
  express a number that may be a string.
- ``x-enum-of`` on a string: an enum whose values it takes, or none. The bundle makes the ``pattern`` of it:
  an empty string in an enum has no name in generated code.
- ``x-enum-varnames`` on an enum: what generated code calls the values. The bundle adds it where values are no
  identifiers and a name follows from them.
- ``x-request-body`` on a link: its ``requestBody``. OpenAPI lets that be an object; the parser of the most
  used generator admits nothing but a string, and refuses the whole document.
- ``x-max-bytes`` on a schema: its JSON is never longer in an answer, whatever its other bounds add up to.
- ``x-may-grow`` on an enum or a ``oneOf``: values may be added without breaking the contract.
- ``x-deprecated`` and ``x-sunset`` on an operation with ``deprecated: true``: the dates from which it is so,
  and on which it ends; ``x-deprecated-answer`` in the root: the headers that tell of them on its answers.
- ``x-every-answer`` in the root: the headers that every answer has.
- ``x-webhooks`` in the root: what is sent to others, as OpenAPI 3.1 has it in ``webhooks``.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from email.utils import format_datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml

Audience = Literal["client", "admin"]
Version = Literal["3.0", "3.1"]
Form = Literal["json", "yaml"]
Document = dict[str, Any]
Node = Any

AUDIENCES: tuple[Audience, ...] = ("client", "admin")
VERSIONS: tuple[Version, ...] = ("3.0", "3.1")
METHODS = ("get", "put", "post", "delete")

OWN_TAG = "contract"
"""The tag of the operations that serve the contract itself. No published projection has them."""

ROOT = Path(__file__).parent
KINDS = {name: name for name in ("parameters", "headers", "responses", "schemas")}
# What stands in the document at the place of its reference.
INLINE = ("paths", "webhooks.yaml")

# These can be emitted before the credential, and with it the dialect, is known.
EARLY = frozenset({"401", "404", "405", "406", "413", "415", "429", "500", "503"})


class ContractError(Exception):
    """The files do not make a contract; the message names the file and the fault."""


@dataclass(frozen=True)
class Operation:
    """One operation of a document; ``spec`` is its OpenAPI object."""

    id: str
    method: str
    path: str
    spec: Document
    audiences: frozenset[Audience]

    @property
    def public(self) -> bool:
        return not self.spec["security"]

    @property
    def scope(self) -> str | None:
        return self.spec.get("x-scope")

    @property
    def farewell(self) -> dict[str, str]:
        """The headers of a deprecated operation: since when it is so (RFC 9745), when it ends (RFC 8594)."""
        if not self.spec.get("deprecated"):
            return {}
        since, end = (_midnight(self.spec[key]) for key in ("x-deprecated", "x-sunset"))
        return {"Deprecation": f"@{since.timestamp():.0f}", "Sunset": format_datetime(end, usegmt=True)}


def _midnight(date: str) -> datetime:
    return datetime.combine(datetime.strptime(date, "%Y-%m-%d"), time(), UTC)


@cache
def _read(file: PurePosixPath) -> Document:
    try:
        return dict(yaml.load((ROOT / file).read_bytes(), yaml.CSafeLoader))
    except OSError as error:
        raise ContractError(f"openapi/{file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ContractError(f"openapi/{file}: {error}") from error


class _Bundler:
    """Copies every referenced definition into ``components`` under its own name."""

    def __init__(self) -> None:
        self.components: Document = {}
        self.origins: dict[tuple[str, str], PurePosixPath] = {}

    def resolve(self, node: Node, file: PurePosixPath) -> Node:
        if isinstance(node, list):
            return [self.resolve(each, file) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return self.refer(node["$ref"], file)
        return {key: self.resolve(value, file) for key, value in node.items()}

    def refer(self, target: str, file: PurePosixPath) -> Node:
        where, _, name = target.partition("#/")
        source = PurePosixPath(*_normal(file.parent / where)) if where else file
        if name not in _read(source):
            raise ContractError(f"openapi/{file}: {target} names nothing")
        definition = _read(source)[name]
        if source.parts[0] in INLINE:
            return self.resolve(definition, source)
        kind = KINDS[source.parts[0].removesuffix(".yaml")]
        known = self.origins.setdefault((kind, name), source)
        if known != source:
            raise ContractError(f"openapi/{source}: {name} is also defined in openapi/{known}")
        if name not in self.components.setdefault(kind, {}):
            self.components[kind][name] = None
            self.components[kind][name] = self.resolve(definition, source)
        return {"$ref": f"#/components/{kind}/{name}"}


def _normal(path: PurePosixPath) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def bundle() -> Document:
    """The whole contract as one document with named components only. Raises ContractError."""
    file = PurePosixPath("openapi.yaml")
    root = copy.deepcopy(_read(file))
    bundler = _Bundler()
    document = bundler.resolve(root, file)
    document["components"] = {**bundler.components, **document["components"]}
    _head(document, document.pop("x-every-answer"))
    _bid_farewell(document, document.pop("x-deprecated-answer"))
    _illustrate(document)
    for schema in _schema_objects(document):
        _restrict_characters(schema)
        _restrict_to_enum(document, schema)
        _name_enum_values(schema)
    _describe(document)
    for operation in operations(document):
        _tighten(document, operation)
    return _reachable(document)


def header_names(document: Document) -> list[str]:
    """The headers that answers may have, in the order of their names."""
    responses = [
        deref(document, each) for op in operations(document) for each in op.spec["responses"].values()
    ]
    return sorted({name for each in responses for name in each.get("headers", ())})


def operations(document: Document) -> Iterator[Operation]:
    """Every operation of a document, in its order."""
    schemes = document["components"]["securitySchemes"]
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            spec = item[method]
            names = [name for requirement in spec["security"] for name in requirement]
            audiences = frozenset(schemes[name]["x-dialect"] for name in names) or frozenset(AUDIENCES)
            yield Operation(spec["operationId"], method, path, spec, audiences)


def webhooks(document: Document) -> Iterator[Operation]:
    """Every event that operators are told of, as an operation of its receiver; the path is its name."""
    events = document.get("webhooks") or document.get("x-webhooks", {})
    for event, item in events.items():
        yield Operation(item["post"]["operationId"], "post", event, item["post"], frozenset({"admin"}))


def deref(document: Document, node: Node) -> Node:
    """The definition that a ``$ref`` points to; anything else as it is."""
    while isinstance(node, dict) and "$ref" in node:
        kind, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document["components"][kind][name]
    return node


DIRECTION = r"\u2028-\u202E\u2066-\u2069"
"""The separators of lines and paragraphs, and the marks that embed, override or isolate a direction.

A mark of the last kind makes a text look like another one. The hexadecimal digits are capital letters, the
only ones that kin-openapi translates for Go.
"""

NOT_IN_TEXT = {
    "any": r"[\x00]",
    "line": rf"[\x00-\x1F\x7F-\x9F{DIRECTION}]",
    "lines": rf"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F{DIRECTION}]",
    # What is not seen would make two addresses look alike: blanks, soft hyphens, fillers, selectors.
    "name": (
        r"[\x00-\x20\x7F-\xA0\xAD\u034F\u0600-\u0605\u061C\u06DD\u070F\u0890\u0891\u08E2\u115F\u1160\u1680"
        r"\u17B4\u17B5\u180B-\u180F\u2000-\u200F\u2028-\u202F\u205F-\u206F\u2800\u3000\u3164\uE000-\uF8FF"
        r"\uFE00-\uFE0F\uFEFF\uFFA0\uFFF9-\uFFFB]"
    ),
}
"""The characters that a text must not contain, by its ``x-text``.

They stand in ``not``, and not in ``pattern``, for two reasons. PHP code of openapi-generator passes a pattern
to PCRE without Unicode, which knows no ``\\u`` and takes the second byte of ß for a control character. And
data generators draw no character that a bare class in ``not`` names.
"""


def _schema_objects(document: Document) -> Iterator[Document]:
    """Every schema of the components, and of the members and items in them."""
    left = list(document["components"]["schemas"].values())
    while left:
        schema = left.pop()
        yield schema
        left += schema.get("properties", {}).values()
        left += [each for each in (schema.get("items"), schema.get("x-also-accepts")) if each]


def _restrict_characters(schema: Document) -> None:
    """Say in ``not`` which characters a text must not contain."""
    if "x-text" in schema:
        schema["not"] = {"pattern": NOT_IN_TEXT[schema["x-text"]]}


def _restrict_to_enum(document: Document, schema: Document) -> None:
    """Write the ``pattern`` of a string that is empty or has a value of an enum."""
    if "x-enum-of" in schema:
        values = document["components"]["schemas"][schema["x-enum-of"]]["enum"]
        schema["pattern"] = f"^({'|'.join(values)})?$"
        schema["maxLength"] = max(map(len, values))


IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _name_enum_values(schema: Document) -> None:
    """Name the values of an enum that are no identifiers. Raises ContractError where no name follows."""
    values = [each for each in schema.get("enum", ()) if not isinstance(each, bool)]
    if "x-enum-varnames" in schema or all(IDENTIFIER.fullmatch(str(each)) for each in values):
        return
    names = ["ALL" if each == "*" else re.sub(r"[^A-Za-z0-9]+", "_", str(each)).upper() for each in values]
    if len(set(names)) != len(values) or not all(IDENTIFIER.fullmatch(each) for each in names):
        raise ContractError(f"an enum that needs x-enum-varnames: {schema.get('description', schema)}")
    schema["x-enum-varnames"] = names


def json_schema(schema: Node, *, answer: bool = False) -> Node:
    """OpenAPI 3.0's dialect as JSON Schema draft 4, with what the server's validators alone judge.

    ``nullable`` becomes a type, ``x-pattern`` a ``pattern``, and ``x-also-accepts`` a choice. The texts of an
    ``answer`` may contain any character, since they may be older than the rule about them.
    """
    if isinstance(schema, list):
        return [json_schema(each, answer=answer) for each in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"example", "nullable", "x-pattern", "x-also-accepts"}
    if answer and "x-text" in schema:
        left_out.add("not")
    result = {key: json_schema(value, answer=answer) for key, value in schema.items() if key not in left_out}
    if schema.get("nullable"):
        result["type"] = [schema["type"], "null"]
    if "x-pattern" in schema:
        result["pattern"] = schema["x-pattern"]
    if "x-also-accepts" in schema:
        other = json_schema(schema["x-also-accepts"], answer=answer)
        return {"x-expects": result.pop("x-expects"), "anyOf": [result, other]}
    return result


ESCAPED = 6
"""The bytes of the dearest character in JSON: a control character, written as an escape."""

ANY_SCALAR = 40
"""The bytes of a number, a literal or an instant, and of a member's quotes, colon and comma."""

DATE_FORMATS = ("date", "date-time")
"""The formats that stand alone, without ``pattern`` and ``maxLength``: each says all about its texts."""


def largest_json(document: Document, schema: Node, character: int = ESCAPED) -> int:
    """How many bytes the longest JSON that a schema admits has, where each character of a text takes so many.

    Raises ContractError where the schema sets no bound.
    """
    schema = deref(document, schema)
    if "x-max-bytes" in schema:
        return int(schema["x-max-bytes"])
    if branches := schema.get("oneOf"):
        return max(largest_json(document, each, character) for each in branches)
    kinds = schema.get("type", "")
    if "properties" in schema:
        members = schema["properties"].items()
        return sum(len(name) + ANY_SCALAR + largest_json(document, each, character) for name, each in members)
    if "array" in kinds:
        return ANY_SCALAR + int(schema["maxItems"]) * largest_json(document, schema["items"], character)
    if "string" in kinds and "enum" not in schema and schema.get("format") not in DATE_FORMATS:
        return ANY_SCALAR + character * int(schema["maxLength"])
    if "object" in kinds:
        raise ContractError(f"an object that sets no bound: {schema.get('description', schema)}")
    return ANY_SCALAR


def list_path(document: Document, schema: Node) -> tuple[str, ...]:
    """The names that lead to the largest list in an object; empty where it has none."""
    paths = [path for path in _paths(document, schema) if "maxItems" in at_path(document, schema, path)]
    return max(paths, key=lambda path: largest_json(document, at_path(document, schema, path)), default=())


def _paths(document: Document, schema: Node) -> Iterator[tuple[str, ...]]:
    """The names that lead to each member of an object and of the objects in it."""
    for name, each in deref(document, schema).get("properties", {}).items():
        yield (name,)
        yield from ((name, *path) for path in _paths(document, each))


def at_path(document: Document, schema: Node, path: Sequence[str]) -> Node:
    """The schema of the member to which the names lead."""
    for name in path:
        schema = deref(document, schema)["properties"][name]
    return deref(document, schema)


def modernise(document: Document) -> Document:
    """The same contract in OpenAPI 3.1: ``webhooks``, type arrays, examples as JSON Schema has them.

    The schema of 3.1 demands an absolute URL of ``externalDocs``, and the server does not know its own.
    """
    result = {"webhooks" if key == "x-webhooks" else key: value for key, value in _modern(document).items()}
    result.pop("externalDocs", None)
    return {**result, "openapi": "3.1.0"}


def _modern(node: Node) -> Node:
    """Whatever lies outside of schemas; examples are data and stay as they are."""
    if isinstance(node, list):
        return [_modern(each) for each in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for key, value in node.items():
        if key == "schema":
            result[key] = _modern_schema(value)
        elif key == "schemas":
            result[key] = {name: _modern_schema(each) for name, each in value.items()}
        elif key in ("example", "examples"):
            result[key] = value
        else:
            result[key] = _modern(value)
    return result


def _modern_schema(schema: Document) -> Document:
    result = dict(schema)
    if "example" in result:
        result["examples"] = [result.pop("example")]
    if result.pop("nullable", False):
        result["type"] = [schema["type"], "null"]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = _modern_schema(schema[key])
    if "oneOf" in schema:
        result["oneOf"] = [_modern_schema(each) for each in schema["oneOf"]]
    if "properties" in schema:
        result["properties"] = {name: _modern_schema(each) for name, each in schema["properties"].items()}
    return result


def branch(document: Document, schema: Node, audience: Audience) -> Node | None:
    """What ``audience`` sees of a schema: its branch of a choice by dialect, None if it has none."""
    target = deref(document, schema)
    if "oneOf" in target and all("x-dialect" in deref(document, each) for each in target["oneOf"]):
        mine = [each for each in target["oneOf"] if deref(document, each)["x-dialect"] == audience]
        return mine[0] if mine else None
    return schema if target.get("x-dialect", audience) == audience else None


def project(document: Document, audience: Audience, *, own: bool = False) -> Document:
    """The same contract as one credential meets it: its operations, its dialect, nothing else.

    With ``own`` it keeps the operations that serve the contract itself. Generators warn of their media types,
    and a client that was made from the contract does not need them.
    """
    result = copy.deepcopy(document)
    if audience == "client":
        result.pop("x-webhooks", None)
    _address(result["info"], audience)
    for operation in list(operations(result)):
        if audience not in operation.audiences or (OWN_TAG in operation.spec["tags"] and not own):
            del result["paths"][operation.path][operation.method]
            continue
        _address(operation.spec, audience)
        if audience == "client":
            operation.spec.pop("x-scope", None)
        parameters = operation.spec.get("parameters", [])
        for parameter in list(parameters):
            definition = deref(result, parameter)
            if definition.get("x-dialect", audience) != audience:
                parameters.remove(parameter)
            _choose_example(definition, audience)
        if not operation.public:
            _narrow(result, operation, audience, keep=EARLY if len(operation.audiences) > 1 else frozenset())
    result["paths"] = {path: item for path, item in result["paths"].items() if item}
    schemes = result["components"]["securitySchemes"]
    result["components"]["securitySchemes"] = {
        name: scheme for name, scheme in schemes.items() if scheme["x-dialect"] == audience
    }
    return _reachable(result)


def _tighten(document: Document, operation: Operation) -> None:
    """Take from an operation what no caller can ever get from it.

    Public operations look at no credential and speak the client document's dialect. An operation of
    one audience speaks the other dialect only to refuse a credential of the wrong kind.
    """
    if operation.public:
        _narrow(document, operation, "client", keep=frozenset())
    elif len(operation.audiences) == 1:
        (audience,) = operation.audiences
        _narrow(document, operation, audience, keep=EARLY | {"403"})


def _narrow(document: Document, operation: Operation, audience: Audience, keep: frozenset[str]) -> None:
    spec, components = operation.spec, document["components"]
    other = {"client": "admin", "admin": "client"}[audience]
    for media in spec.get("requestBody", {}).get("content", {}).values():
        _narrow_media(document, media, audience)
    for status, response in list(spec["responses"].items()):
        definition = deref(document, response)
        if definition.get("x-dialect") == other:
            del spec["responses"][status]
        elif "$ref" not in response:
            for media in definition.get("content", {}).values():
                _narrow_media(document, media, audience)
            links = definition.get("links", {})
            for name in [name for name, link in links.items() if link.get("x-dialect") == other]:
                del links[name]
        elif status not in keep and any(
            branch(document, media["schema"], audience) != media["schema"]
            for media in definition.get("content", {}).values()
        ):
            name = audience.capitalize() + response["$ref"].rpartition("/")[2]
            if name not in components["responses"]:
                components["responses"][name] = copy.deepcopy(definition)
                for media in components["responses"][name]["content"].values():
                    _narrow_media(document, media, audience)
            spec["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    spec["security"] = [
        each
        for each in spec["security"]
        if all(components["securitySchemes"][name]["x-dialect"] == audience for name in each)
    ]


def _narrow_media(document: Document, media: Document, audience: Audience) -> None:
    media["schema"] = branch(document, media["schema"], audience)
    _choose_example(media, audience)


def _choose_example(node: Document, audience: Audience) -> None:
    chosen = [each for each in node.get("examples", {}).values() if each.get("x-dialect") == audience]
    if chosen:
        del node["examples"]
        node["example"] = chosen[0]["value"]


def _head(document: Document, headers: Document) -> None:
    """Give every answer the headers that all have."""
    for operation in operations(document):
        for response in operation.spec["responses"].values():
            definition = deref(document, response)
            definition["headers"] = headers | definition.get("headers", {})


def _bid_farewell(document: Document, headers: Document) -> None:
    """Give every answer of a deprecated operation the headers that say so, in responses of its own."""
    shared = document["components"]["responses"]
    for operation in operations(document):
        if not operation.spec.get("deprecated"):
            continue
        for status, response in operation.spec["responses"].items():
            if "$ref" in response:
                name = "Deprecated" + response["$ref"].rpartition("/")[2]
                definition = deref(document, response)
                shared.setdefault(name, {**definition, "headers": definition["headers"] | headers})
                operation.spec["responses"][status] = {"$ref": f"#/components/responses/{name}"}
            else:
                response["headers"] |= headers


def _illustrate(document: Document) -> None:
    """Give every body and answer the example of its schema, one for each dialect."""
    for operation in (*operations(document), *webhooks(document)):
        parts = [operation.spec.get("requestBody", {}), *operation.spec["responses"].values()]
        for part in parts:
            for media in deref(document, part).get("content", {}).values():
                if "example" in media or "examples" in media:
                    continue
                target = deref(document, media["schema"])
                branches = [deref(document, each) for each in target.get("oneOf", [])]
                if branches and all("x-dialect" in each for each in branches):
                    media["examples"] = {
                        each["x-dialect"]: {"x-dialect": each["x-dialect"], "value": each["example"]}
                        for each in branches
                    }
                else:
                    media["example"] = target["example"]


def _describe(document: Document) -> None:
    """Add to each description what it tells one audience alone, and the scope that an operation needs."""
    for operation in operations(document):
        if operation.scope is None:
            continue
        if len(operation.audiences) == 1:
            needed = f"Requires the scope `{operation.scope}`."
            operation.spec["description"] = _paragraphs(operation.spec["description"], needed)
        else:
            notes = operation.spec.setdefault("x-description", {})
            needed = f"An API key needs the scope `{operation.scope}`."
            notes["admin"] = f"{notes.get('admin', '').strip()} {needed}".strip()
    for node in (document["info"], *(operation.spec for operation in operations(document))):
        notes = node.get("x-description", {})
        notes.update({audience: text.strip() for audience, text in notes.items()})
        node["description"] = _paragraphs(node["description"], *notes.values())
    scheme = document["components"]["securitySchemes"]["adminKey"]
    scheme["description"] = _paragraphs(scheme["description"], _scope_table(document))


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text.strip() for text in texts)


def _scope_table(document: Document) -> str:
    """What each scope allows, as a table in Markdown."""
    allowed = {
        scope: ["all operations"] if scope == "*" else []
        for scope in document["components"]["schemas"]["Scope"]["enum"]
    }
    for operation in operations(document):
        if operation.scope:
            allowed[operation.scope].append(operation.spec["summary"])
    rows = [f"| `{scope}` | {'; '.join(summaries)} |" for scope, summaries in allowed.items()]
    return "\n".join(["| Scope | Allows |", "|---|---|", *rows])


def description_for(node: Document, audience: Audience) -> str:
    """The description of an operation or of ``info`` without what it tells the other audience alone."""
    description = str(node["description"])
    for addressee, text in node.get("x-description", {}).items():
        if addressee != audience:
            description = description.replace(f"\n\n{text}", "")
    return description


def _address(node: Document, audience: Audience) -> None:
    node["description"] = description_for(node, audience)
    node.pop("x-description", None)


def _reachable(document: Document) -> Document:
    """The document without the components that nothing refers to, each kind in order of name."""
    found: set[str] = set()

    def visit(node: Node) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str) and target not in found:
                found.add(target)
                visit(deref(document, node))
            for each in node.values():
                visit(each)

    visit([document["paths"], document.get("x-webhooks")])
    used_tags = {tag for operation in operations(document) for tag in operation.spec["tags"]}
    components = {
        kind: {
            name: definition
            for name, definition in sorted(definitions.items())
            if kind == "securitySchemes" or f"#/components/{kind}/{name}" in found
        }
        for kind, definitions in sorted(document["components"].items())
    }
    tags = [tag for tag in document["tags"] if tag["name"] in used_tags]
    return {**document, "tags": tags, "components": components}


@dataclass(frozen=True)
class Rendition:
    """A document as the bytes that are served, their entity tag, and headers of its own."""

    body: bytes
    etag: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: bytes, headers: dict[str, str] | None = None) -> "Rendition":
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', headers or {})


class _PlainDumper(yaml.CSafeDumper):
    """Writes shared parts in full: readers of the contract should not have to follow anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def render(document: Document, form: Form) -> Rendition:
    """A document as the bytes that are published."""
    if form == "json":
        return Rendition.of(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    text = yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)
    return Rendition.of(text.encode())


def published(form: Form, audience: Audience | None = None, version: Version = "3.0") -> Rendition:
    """The bundle, or its projection for an audience, in a version of OpenAPI, as it is served."""
    return _published(form, audience, version)


@cache
def _published(form: Form, audience: Audience | None, version: Version) -> Rendition:
    document = bundle()
    if audience:
        document = project(document, audience)
    return render(modernise(document) if version == "3.1" else document, form)
