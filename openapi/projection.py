"""Project the contract: one audience, one version of OpenAPI, without what only the other needs."""

import copy

from openapi.contract import (
    OWN_TAG,
    Audience,
    Document,
    Node,
    Operation,
    branch,
    deref,
    description_for,
    operations,
    reachable,
)

# These can be emitted before the credential, and with it the dialect, is known.
BEFORE_AUTHENTICATION = frozenset({"401", "404", "405", "406", "413", "415", "429", "500", "503"})


def to_openapi_31(document: Document) -> Document:
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
            restrict_to_audience(
                result,
                operation,
                audience,
                keep=BEFORE_AUTHENTICATION if len(operation.audiences) > 1 else frozenset(),
            )
    result["paths"] = {path: item for path, item in result["paths"].items() if item}
    schemes = result["components"]["securitySchemes"]
    result["components"]["securitySchemes"] = {
        name: scheme for name, scheme in schemes.items() if scheme["x-dialect"] == audience
    }
    return reachable(result)


def restrict_to_audience(
    document: Document, operation: Operation, audience: Audience, keep: frozenset[str]
) -> None:
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


def _address(node: Document, audience: Audience) -> None:
    node["description"] = description_for(node, audience)
    node.pop("x-description", None)
