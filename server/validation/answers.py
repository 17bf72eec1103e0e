"""Response bodies: validated against the contract and serialized."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from openapi import contract, json_schema
from server.validation.validator import Validator

SLICE = 256 * 1024
"""The bytes of a response that are validated and serialized without a pause for other requests."""


class AnswerSchema(Validator):
    """The schema of a response. It validates a response and serializes it, a large list in slices.

    The slices follow from the contract: as many rows as have at most ``SLICE`` bytes where each is as long as
    the contract allows. So no answer that the contract admits holds the event loop.
    """

    def __init__(self, document: contract.Document, schema: Any) -> None:
        super().__init__(document, schema, answer=True)
        self.path = json_schema.list_path(document, schema)
        self.rows, self.most, self._rows_judge = 0, 0, self._judge
        if self.path and json_schema.largest_json(document, schema) > SLICE:
            rows = json_schema.at_path(document, schema, self.path)
            self.rows = max(1, SLICE // json_schema.largest_json(document, rows["items"]))
            self.most = int(rows["maxItems"])
            self._rows_judge = Validator(document, rows, answer=True)._judge

    async def serialize(self, content: Any) -> bytes | None:
        """Return the JSON of a response, or None if the contract does not allow it."""
        rows = content
        for name in self.path if self.rows else ():
            rows = rows.get(name) if isinstance(rows, dict) else None
        if not self.rows or not isinstance(rows, list) or len(rows) <= self.rows:
            return orjson.dumps(content) if self.is_valid(content) else None
        if len(rows) > self.most or not self.is_valid(_replaced(content, self.path, rows[:1])):
            return None
        parts, fresh = [], 0
        for begin in range(0, len(rows), self.rows):
            part = rows[begin : begin + self.rows]
            if not self._rows_judge.is_valid(part):
                return None
            parts.append(orjson.dumps(part)[1:-1])
            fresh += len(parts[-1])
            if fresh > SLICE:
                fresh = 0
                await asyncio.sleep(0)
        array = orjson.Fragment(b"[%b]" % b",".join(parts))
        return orjson.dumps(_replaced(content, self.path, array))


def _replaced(content: Any, path: Sequence[str], value: Any) -> Any:
    """Return a copy of nested objects in which the member at a path has another value."""
    name, *rest = path
    return {**content, name: _replaced(content[name], rest, value) if rest else value}
