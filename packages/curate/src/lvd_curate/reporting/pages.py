"""Filling in the templates: nothing that comes from data may become markup."""

import base64
import hashlib
import json
import re
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
    environment.filters |= {"number": "{:,}".format, "script": script_json, "digest": digest}
    environment.filters |= {"text": plain_text, "code": plain_code}
    return environment.get_template(template).render(view)


def plain_text(value: object) -> str:
    """Return text that Markdown shows as it is, in a table, too: no mark-up, no link, no HTML."""
    return re.sub(r"[&<>|`*\[\]]", lambda found: f"&#{ord(found[0])};", show_name(str(value)))


def plain_code(value: object) -> str:
    """Return text that may stand between backticks."""
    return show_name(str(value)).replace("`", "'")


def digest(text: str) -> str:
    """Return what tells a browser which script of a page may run: that of this text alone."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def script_json(value: object) -> Markup:
    """Return JSON that may stand inside a script element: no character of it can end the element."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII only
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
