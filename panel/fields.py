"""Form fields, made from the schemas of the contract."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openapi import contract

LINES = 3
MORE_LINES = 5

# What a name does not say by itself.
LABELS = {
    "id": "ID",
    "actor_id": "Actor ID",
    "event_id": "Event ID",
    "next_attempt_at": "Next attempt",
    "uid": "Message ID",
    "message_id": "Message ID",
    "items": "Lines",
    "url": "URL",
    "ip_address": "IP address",
    "address": "Street and number",
    "q": "Search",
    "kind": "Kind of server",
    "rate_limit_client": "Calls a minute of one address with client tokens",
    "rate_limit_admin": "Calls a minute of one API key",
    "rate_limit_anonymous": "Calls a minute of one address without a valid credential",
}

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(?:\.\d+)?)?")


def label(name: str) -> str:
    """The labels of members."""
    words = name.removesuffix("_id").removesuffix("_at") if name not in LABELS else ""
    return LABELS.get(name) or words.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Field:
    """One input, or a group of them."""

    name: str
    kind: str
    required: bool = False
    label: str = ""
    hint: str = ""
    options: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str | int], ...] = ()
    fields: tuple["Field", ...] = ()
    value: Any = ""
    error: str = ""
    now: str | None = None


def fields_of(document: contract.Document, schema: Any, base: str = "") -> tuple[Field, ...]:
    """The fields of an object's schema."""
    target = contract.deref(document, schema)
    required = target.get("required", ())
    return tuple(
        field_of(document, name, each, base=base, required=name in required)
        for name, each in target["properties"].items()
    )


def field_of(
    document: contract.Document, name: str, schema: Any, *, base: str = "", required: bool = False
) -> Field:
    """The field of a member, or of a parameter."""
    spec = contract.deref(document, schema)
    kind = _kind(document, name, spec)
    made = Field(
        name=base + name,
        kind=kind,
        required=required,
        label=_title(name, kind),
        hint=_hint(kind, schema, spec),
        attributes=() if kind == "money" else tuple(_attributes(name, spec)),
    )
    if made.kind == "group":
        return replace(made, fields=fields_of(document, spec, f"{made.name}."))
    if made.kind == "lines":
        made = replace(made, hint="")
        # A line that is left empty is none, so nothing is required in it.
        inner = fields_of(document, spec["items"])
        return replace(made, fields=tuple(replace(each, required=False, hint="") for each in inner))
    return replace(made, options=tuple((each, each or "—") for each in _values(document, made.kind, spec)))


def _values(document: contract.Document, kind: str, spec: Mapping[str, Any]) -> list[Any]:
    """The values that a field offers; the empty one clears it."""
    if kind == "checks":
        return list(contract.deref(document, spec["items"])["enum"])
    if "x-enum-of" in spec:
        return ["", *document["components"]["schemas"][spec["x-enum-of"]]["enum"]]
    return list(spec.get("enum", ()))


def _title(name: str, kind: str) -> str:
    """Return the label of a field. It mentions numbers, and UTC for instants."""
    if kind == "number" and name.endswith("_id"):
        return f"{label(name)} ID"
    return f"{label(name)} (UTC)" if kind == "instant" else label(name)


def _kind(document: contract.Document, name: str, spec: Mapping[str, Any]) -> str:
    if spec.get("type") == "object":
        return "group"
    if spec.get("type") == "array":
        return "checks" if "enum" in contract.deref(document, spec["items"]) else "lines"
    if spec.get("type") == "boolean":
        return "yesno"
    if "enum" in spec or "x-enum-of" in spec:
        return "select"
    if spec.get("type") == "integer":
        return "number"
    if spec.get("type") == "number":
        return "money"
    kinds = {"date": "date", "date-time": "instant", "password": "password"}
    if spec.get("format") in kinds:
        return kinds[spec["format"]]
    return "long" if spec.get("x-text") == "lines" else "text"


def _hint(kind: str, schema: Any, spec: Mapping[str, Any]) -> str:
    expects = spec.get("x-expects", "")
    if kind == "money":
        return ""
    if kind == "password":
        return "At least 8 characters. Leave this empty to keep the current password."
    if expects and kind not in ("date", "instant", "select"):
        return f"{expects[0].upper()}{expects[1:]}."
    return "" if "$ref" in schema else str(spec.get("description", ""))


def _attributes(name: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str | int]]:
    names = {"minLength": "minlength", "maxLength": "maxlength", "minimum": "min", "maximum": "max"}
    yield from ((html, spec[key]) for key, html in names.items() if key in spec)


def text_of(value: Any) -> Any:
    """A member's value as its field shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and re.fullmatch(INSTANT.pattern + "Z", value):
        return value.removesuffix("Z")
    return value if isinstance(value, list) else str(value)


def bound(fields: Sequence[Field], item: Mapping[str, Any], faults: Mapping[str, str]) -> list[Field]:
    """Fields with the values of an object and what is wrong with them."""
    result = []
    for each in fields:
        name = each.name.rpartition(".")[2]
        value = item.get(name)
        error = faults.get(each.name, "")
        if each.kind == "group":
            inner = bound(each.fields, value or {}, faults)
            result.append(replace(each, fields=tuple(inner), error=error))
        elif each.kind == "lines":
            rows = value or []
            made = [
                tuple(bound(_row(each, nth), row, faults))
                for nth, row in enumerate([*rows, *[{}] * max(0, LINES - len(rows))])
            ]
            result.append(replace(each, value=made, error=error))
        else:
            if each.kind == "checks":
                # A fault of one entry stands at the whole.
                error = error or next(
                    (text for key, text in faults.items() if key.startswith(f"{each.name}.")), ""
                )
            result.append(replace(each, value=text_of(value), error=error))
    return result


def _row(field: Field, nth: int) -> list[Field]:
    return [replace(each, name=f"{field.name}.{nth}.{each.name}") for each in field.fields]


def with_current_value(field: Field, item: Mapping[str, Any]) -> Field:
    """Return a field that shows the value which another change gave it."""
    if field.kind == "group":
        inner = item.get(field.name) or {}
        return replace(
            field,
            fields=tuple(
                with_current_value(replace(each), {each.name: inner.get(each.name.rpartition(".")[2])})
                for each in field.fields
            ),
        )
    now = text_of(item.get(field.name))
    if field.kind in ("lines", "password") or now == field.value:
        return field
    return replace(field, now=", ".join(now) if isinstance(now, list) else now or "empty")
