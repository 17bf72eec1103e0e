"""The contract and the page that shows it. In neither document."""

import asyncio
import base64
import hashlib
import json
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from openapi.contract import ROOT, Audience, Version, webhooks
from openapi.loading import bundle
from openapi.rendering import Rendition, published

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
{own}</style>
</head>
<body>
<header><h1>{title}</h1></header>
<main id="docs">The contract is being loaded. It can also be read as <a href="openapi.json">JSON</a>
or <a href="openapi.yaml">YAML</a>.</main>
<section class="webhooks" aria-labelledby="tests">
<h2 id="tests">Tests</h2>
<p>To fuzz this server with Schemathesis, save <a href="schemathesis.toml">schemathesis.toml</a> in the
folder in which you run it.</p>
</section>
<section class="webhooks" aria-labelledby="webhooks">
<h2 id="webhooks">Webhooks</h2>
<p>The server sends these events to webhooks, as signed POST requests with JSON. The contract lists them
under <code>x-webhooks</code>.</p>
{webhooks}</section>
<script>{script}</script>
<script>{start}</script>
</body>
</html>
"""

# Swagger UI has no dark colours, so its light ones are turned around; some of those are too pale to be read.
OWN = """
body { margin: 0; background: #fff; color: #3b4151; font: 1rem/1.5 sans-serif }
h1 { font-size: 1.25rem; margin: 0; padding: 10px 20px }
.webhooks { max-width: 1460px; margin: 0 auto; padding: 0 20px 40px; box-sizing: border-box }
.webhooks details { border: 1px solid #888; border-radius: 4px; margin: 0 0 10px; padding: 8px 12px }
.webhooks summary { cursor: pointer; overflow-wrap: anywhere }
.webhooks a { color: #1d5fb0 }
.webhooks pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }
.swagger-ui .info .title small { background: #5f6675 }
.swagger-ui .info .title small.version-stamp { background: #4a7300 }
.swagger-ui .info a, .swagger-ui a.link { color: #1d5fb0 }
.swagger-ui .opblock.opblock-get .opblock-summary-method { background: #1d5fb0 }
.swagger-ui .opblock.opblock-post .opblock-summary-method { background: #1f7048 }
.swagger-ui .opblock.opblock-put .opblock-summary-method { background: #985300 }
.swagger-ui .opblock.opblock-delete .opblock-summary-method { background: #b92626 }
.swagger-ui .btn.authorize { color: #1f7048; border-color: #1f7048 }
@media (prefers-color-scheme: dark) {
  body { background: #1a1d22; color: #d8dce3 }
  .webhooks a { color: #8ab8f2 }
  #docs { background: #fff; filter: invert(90%) hue-rotate(180deg) }
  #docs .topbar { filter: invert(100%) hue-rotate(180deg) }
}
"""

WEBHOOK = """<details>
<summary><code>{event}</code>: {summary}</summary>
<p>{description}</p>
<pre tabindex="0"><code>{example}</code></pre>
</details>
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
  // What screen readers miss: a name, and buttons that hold no links. The button itself writes the address.
  onComplete() {
    document.querySelector("#servers")?.setAttribute("aria-label", "Server");
    document.querySelectorAll("#docs button a").forEach((each) => each.removeAttribute("href"));
  },
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
    page = PAGE.format(title=TITLE, style=style, own=OWN, webhooks=_webhooks(), script=script, start=START)
    policy = (
        f"default-src 'none'; script-src {_hash(script)} {_hash(START)}; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    )
    return Rendition.of(page.encode(), {"Content-Security-Policy": policy})


@cache
def schemathesis_configuration() -> Rendition:
    """The settings of ``openapi/schemathesis.toml``, with which the project's own runs begin as well."""
    return Rendition.of((ROOT / "schemathesis.toml").read_bytes())


def _webhooks() -> str:
    """The events, which Swagger UI does not show."""
    parts = []
    for each in webhooks(bundle()):
        example = each.spec["requestBody"]["content"]["application/json"]["example"]
        texts = {
            "event": each.path,
            "summary": each.spec["summary"],
            "description": each.spec["description"].replace("`", ""),
            "example": json.dumps(example, indent=2, ensure_ascii=False),
        }
        parts.append(WEBHOOK.format_map({name: escape(text) for name, text in texts.items()}))
    return "".join(parts)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


async def show_openapi_json(audience: Audience | None = None, version: Version = "3.0") -> Document:
    """The contract as JSON."""
    return await asyncio.to_thread(published, "json", audience, version), 200


async def show_openapi_yaml(audience: Audience | None = None, version: Version = "3.0") -> Document:
    """The contract as YAML."""
    return await asyncio.to_thread(published, "yaml", audience, version), 200


async def show_schemathesis_toml() -> Document:
    """The configuration for Schemathesis."""
    return schemathesis_configuration(), 200


async def show_docs() -> Document:
    """The page for browsers."""
    return await asyncio.to_thread(docs_page), 200
