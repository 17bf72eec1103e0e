"""Render the contract as JSON and YAML, as the server publishes it."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import yaml

from openapi.contract import Audience, Document, Version
from openapi.loading import bundle
from openapi.projection import project, to_openapi_31

Form = Literal["json", "yaml"]


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
    return render(to_openapi_31(document) if version == "3.1" else document, form)
