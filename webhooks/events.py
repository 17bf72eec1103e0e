"""The eight events of ArcBilling, as the contract describes them under ``x-webhooks``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs

from openapi import contract, json_schema, loading


class EventBreach(Exception):
    """The data of an event violates the contract. The message is for the log."""


@dataclass(frozen=True)
class EventKind:
    """A kind of event: its name, the validator of its data, and an example."""

    name: str
    validator: Any
    example: Mapping[str, Any]

    def check(self, data: Mapping[str, Any]) -> None:
        """Require data that the contract allows. Raises EventBreach."""
        if not self.validator.is_valid(data):
            faults = [f"{error.instance_path} {error.message}" for error in self.validator.iter_errors(data)]
            raise EventBreach(f"{self.name}: {'; '.join(faults)}")


@cache
def event_kinds() -> Mapping[str, EventKind]:
    """Return every kind of event by its name. The first call takes 100 ms."""
    document = loading.bundle()
    components = {"schemas": json_schema.json_schema(document["components"]["schemas"], answer=True)}
    result = {}
    for name, item in document["x-webhooks"].items():
        media = item["post"]["requestBody"]["content"]["application/json"]
        data = contract.deref(document, media["schema"])["properties"]["data"]
        validator = jsonschema_rs.Draft4Validator(
            {**json_schema.json_schema(data, answer=True), "components": components}, validate_formats=True
        )
        result[name] = EventKind(name, validator, media["example"]["data"])
    return result
