"""The contract and the page that shows it. In neither document."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from openapi.contract import Audience, Rendition, published

Document = tuple[Rendition, int]

TITLE = "CloudArc API"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}
body {{ margin: 0 }}</style>
</head>
<body>
<main id="docs">The contract is being loaded. It can also be read as <a href="openapi.json">JSON</a>
or <a href="openapi.yaml">YAML</a>.</main>
<script>{script}</script>
<script>{start}</script>
</body>
</html>
"""

START = """
SwaggerUIBundle({
  dom_id: "#docs",
  urls: [
    { name: "Client: what an API token may call", url: "openapi.json?audience=client" },
    { name: "Admin: what an API key may call", url: "openapi.json?audience=admin" },
    { name: "Both", url: "openapi.json" },
  ],
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  validatorUrl: null,
  deepLinking: true,
  persistAuthorization: false,
  defaultModelsExpandDepth: 0,
});
"""


@cache
def docs_page() -> Rendition:
    """Swagger UI as one document, so that it needs no other address and no route of its own."""
    static = Path(str(files("swagger_ui"))) / "static"
    names = ("swagger-ui-bundle.js", "swagger-ui-standalone-preset.js")
    script = "\n".join((static / name).read_text(encoding="utf-8") for name in names)
    style = (static / "swagger-ui.css").read_text(encoding="utf-8")
    if "</script" in script.lower():
        raise RuntimeError("swagger-ui-py: its scripts cannot stand inside a page")
    page = PAGE.format(title=TITLE, style=style, script=script, start=START)
    policy = (
        f"default-src 'none'; script-src {_hash(script)} {_hash(START)}; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    )
    return Rendition.of(page.encode(), {"Content-Security-Policy": policy})


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


async def show_openapi_json(audience: Audience | None = None) -> Document:
    """The contract as JSON."""
    return published("json", audience), 200


async def show_openapi_yaml(audience: Audience | None = None) -> Document:
    """The contract as YAML."""
    return published("yaml", audience), 200


async def show_docs() -> Document:
    """The page for browsers."""
    return docs_page(), 200
