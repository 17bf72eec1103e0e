"""Parameters of path, query and headers, compiled from the contract."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from openapi import contract
from server.errors import ErrorDetail, detail
from server.validation.json_reader import parse_integer
from server.validation.validator import Validator
from server.validation.violations import SAFE_NAME

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")


# --- Parameters --------------------------------------------------------------------------------------


# The types that a parameter may have, by its place.
KINDS = {"path": ("integer", "string"), "query": ("integer", "string"), "header": ("string",)}


@dataclass(frozen=True)
class Parameter:
    """A compiled parameter of an operation."""

    name: str
    place: str
    required: bool
    integer: bool
    dialect: str | None
    default: Any
    validator: Validator
    is_list: bool = False

    @classmethod
    def compile(cls, document: contract.Document, spec: contract.Document) -> "Parameter":
        schema = contract.deref(document, spec["schema"])
        if spec["in"] not in KINDS or schema.get("type") not in KINDS[spec["in"]]:
            raise contract.ContractError(
                f"parameter {spec['name']}: only integers and strings in path and query, and strings in "
                "headers are supported"
            )
        if spec["in"] == "header" and (spec["required"] or "x-dialect" in spec):
            raise contract.ContractError(
                f"parameter {spec['name']}: a header that is required or of one dialect is not supported"
            )
        for keyword in ("style", "explode", "allowReserved", "allowEmptyValue", "content"):
            if keyword in spec:
                raise contract.ContractError(f"parameter {spec['name']}: {keyword} is not supported")
        return cls(
            name=spec["name"],
            place=spec["in"],
            required=spec["required"],
            integer=schema["type"] == "integer",
            dialect=spec.get("x-dialect"),
            default=schema.get("default"),
            validator=Validator(document, spec["schema"]),
            is_list=spec.get("x-list", False),
        )

    @property
    def argument(self) -> str:
        """The name of the handler's argument, such as ``if_match`` for ``If-Match``."""
        return self.name.lower().replace("-", "_") if self.place == "header" else self.name

    def parse(self, text: str) -> tuple[Any, list[ErrorDetail]]:
        """Return the value of a text and its faults."""
        value = parse_integer(text) if self.integer and INTEGER.fullmatch(text) else text
        if self.validator.is_valid(value):
            return value, []
        return None, [found.detail for found in self.validator.violations(value, self.place, f"/{self.name}")]


def parse_query(
    query: bytes, parameters: Mapping[str, Parameter], dialect: str
) -> tuple[dict[str, Any], list[ErrorDetail]]:
    """Return the parameters of a query string and its faults.

    An unknown parameter, a duplicate one and one of the other dialect are faults. ``api_token`` is a
    credential, so this function ignores it.
    """
    values: dict[str, Any] = {}
    faults: list[ErrorDetail] = []
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        return {}, [detail("query", "", "The query string is not valid UTF-8, or has more than 100 fields.")]
    for name, text in pairs:
        if name == "api_token":
            continue
        parameter = parameters.get(name)
        pointer = f"/{name}" if SAFE_NAME.fullmatch(name) else ""
        if parameter is None or parameter.dialect not in (None, dialect):
            known = ", ".join(each.name for each in parameters.values() if each.dialect in (None, dialect))
            faults.append(
                detail("query", pointer, f"This parameter is not known here; known are: {known or 'none'}.")
            )
        elif name in values:
            faults.append(detail("query", pointer, f"The {name} field must not stand twice."))
        else:
            values[name], wrong = parameter.parse(text)
            faults += wrong
    return values, faults


def parse_headers(
    headers: Iterable[tuple[bytes, bytes]], parameters: Mapping[bytes, Parameter]
) -> tuple[dict[str, Any], list[ErrorDetail]]:
    """Return the parameters in the headers and their faults. The keys are header names in lower case."""
    values: dict[str, Any] = {}
    faults: list[ErrorDetail] = []
    given: dict[bytes, list[str]] = {}
    for key, text in headers:
        parameter = parameters.get(key)
        if parameter is None:
            continue
        if key not in given or parameter.is_list:
            given.setdefault(key, []).append(text.decode("latin-1"))
        else:
            faults.append(
                detail("header", f"/{parameter.name}", f"The {parameter.name} field must not stand twice.")
            )
    for key, lines in given.items():
        values[parameters[key].argument], wrong = parameters[key].parse(", ".join(lines))
        faults += wrong
    return values, faults
