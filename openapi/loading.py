"""Load the contract: bundle its files into one document, and add what the files leave out."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath

import yaml

from openapi.contract import (
    ROOT,
    ContractError,
    Document,
    Node,
    Operation,
    deref,
    operations,
    reachable,
    webhooks,
)
from openapi.projection import BEFORE_AUTHENTICATION, restrict_to_audience

KINDS = {name: name for name in ("parameters", "headers", "responses", "schemas")}
# What stands in the document at the place of its reference.
INLINE = ("paths", "webhooks.yaml")


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
    _add_common_headers(document, document.pop("x-every-answer"))
    _add_deprecation_headers(document, document.pop("x-deprecated-answer"))
    _add_examples(document)
    for schema in _schema_objects(document):
        _restrict_characters(schema)
        _restrict_to_enum(document, schema)
        _name_enum_values(schema)
    _add_descriptions(document)
    for operation in operations(document):
        _drop_impossible_answers(document, operation)
    return reachable(document)


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


def _drop_impossible_answers(document: Document, operation: Operation) -> None:
    """Take from an operation what no caller can ever get from it.

    Public operations look at no credential and speak the client document's dialect. An operation of
    one audience speaks the other dialect only to refuse a credential of the wrong kind.
    """
    if operation.public:
        restrict_to_audience(document, operation, "client", keep=frozenset())
    elif len(operation.audiences) == 1:
        (audience,) = operation.audiences
        restrict_to_audience(document, operation, audience, keep=BEFORE_AUTHENTICATION | {"403"})


def _add_common_headers(document: Document, headers: Document) -> None:
    """Give every answer the headers that all have."""
    for operation in operations(document):
        for response in operation.spec["responses"].values():
            definition = deref(document, response)
            definition["headers"] = headers | definition.get("headers", {})


def _add_deprecation_headers(document: Document, headers: Document) -> None:
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


def _add_examples(document: Document) -> None:
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


def _add_descriptions(document: Document) -> None:
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
