"""The OpenAPI document as a page that loads nothing. Pure."""

import json
from html import escape
from typing import Any, Final

Json = dict[str, Any]

HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"}
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } a { color: #8bf; } }
h2 { border-top: 1px solid #8886; padding-top: 1rem; font-size: 1.1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .5rem; border: 1px solid #8886; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; }
"""


def written(document: Json) -> str:
    """As HTML."""
    info = document["info"]
    operations = [(method, path, what) for path, at in document["paths"].items() for method, what in at.items()]
    toc = "".join(
        f'<li><a href="#{what["operationId"]}"><code>{method.upper()} {escape(path)}</code></a> '
        f"{escape(what['summary'])}</li>"
        for method, path, what in operations
    )
    schemas = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    title = escape(info["title"])
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><h1>{title}</h1>'
        f'<p>{escape(info["description"])} For programs: <a href="openapi.json">openapi.json</a>.</p><ul>{toc}</ul>'
        f"{''.join(_operation(*each) for each in operations)}<h1>Schemas</h1>{schemas}</body></html>"
    )


def _operation(method: str, path: str, what: Json) -> str:
    parts = [f'<h2 id="{what["operationId"]}"><code>{method.upper()} {escape(path)}</code></h2>']
    parts.append(f"<p>{escape(what['summary'])}. {escape(what.get('description', ''))}</p>")
    if parameters := what.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td><td>{escape(_told(each))}</td></tr>"
            for each in parameters
        )
        parts.append(f"<table><tr><th>Parameter</th><th>In</th><th></th></tr>{rows}</table>")
    if body := what.get("requestBody"):
        parts.append(f"<p>Send {_content(body)}</p>")
    rows = "".join(
        f"<tr><td>{status}</td><td>{escape(said['description'])}</td><td>{_content(said)}</td></tr>"
        for status, said in what["responses"].items()
    )
    parts.append(f"<table><tr><th>Answer</th><th></th><th></th></tr>{rows}</table>")
    return "".join(parts)


def _told(parameter: Json) -> str:
    schema = parameter.get("schema", {})
    bounds = {key: schema[key] for key in ("enum", "const", "minimum", "maximum", "default") if key in schema}
    said = parameter.get("description") or schema.get("description", "")
    return " ".join([said, *(f"{key}: {json.dumps(value)}." for key, value in bounds.items())])


def _content(of: Json) -> str:
    (kind, at), *_ = of["content"].items()
    reference = at.get("schema", {}).get("$ref", "")
    name = reference.rpartition("/")[2]
    return f'<a href="#{name}">{name}</a>' if name else escape(kind)


def _schema(name: str, schema: Json) -> str:
    text = escape(json.dumps(schema, indent=2))
    return f'<h2 id="{name}">{name}</h2><p>{escape(schema.get("description", ""))}</p><pre>{text}</pre>'
