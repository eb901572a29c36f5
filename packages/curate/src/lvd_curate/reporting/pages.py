"""Filling in the templates: nothing that comes from data may become markup."""

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lvd_curate.engine.artifacts import write_whole
from lvd_curate.inputs.file_names import show_name


def write_page(template: str, view: dict[str, Any], file: Path) -> None:
    """Fill in a template and write it, whole or not at all."""
    text = render(template, view)
    with write_whole(file) as stream:
        stream.write(text.encode())


def render(template: str, view: dict[str, Any]) -> str:
    """Fill in a template; everything that comes from data is escaped in HTML, and one line everywhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lvd_curate", "templates"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        finalize=lambda value: show_name(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "script": script_json}
    return environment.get_template(template).render(view)


def script_json(value: object) -> Markup:
    """Return JSON that may stand inside a script element: no character of it can end the element."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII only
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
