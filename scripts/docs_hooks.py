"""What mkdocs.yml needs beside its settings: pages that lie outside of docs/, links that leave it, every error line."""

from __future__ import annotations

import posixpath
import re
from functools import partial
from pathlib import Path
from typing import Any

from errors_by_moment import render_errors
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parent.parent
ADOPTED = {"contributing.md": "CONTRIBUTING.md"}  # page -> file of the repository
STACKED = ("understand/", "reference/", "troubleshooting.md")  # pages whose tables are text: see docs/site.css
LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages that are written elsewhere in the repository."""
    for page, source in ADOPTED.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        moved = LINK.sub(partial(_within_docs, source), text)
        files.append(File.generated(config, page, content=moved))
    files.append(File.generated(config, "reference/errors.md", content=render_errors()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Turn a link to a file of the repository that is no page into the address of that file, or into its bare name."""
    return LINK.sub(lambda link: _within_site(link, page.file.src_uri, config.repo_url), markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Mark the pages whose tables may be laid out anew on a narrow screen."""
    return f'<div class="stacked">{content}</div>' if page.file.src_uri.startswith(STACKED) else content


def _within_docs(source: str, link: re.Match[str]) -> str:
    """A link of a file outside of docs/, as a page at the top of docs/ would write it."""
    bang, text, target, anchor = link.group(1), link.group(2), link.group(3), link.group(4) or ""
    if SCHEME.match(target):
        return link.group(0)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    moved = path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
    return f"{bang}[{text}]({moved}{anchor})"


def _within_site(link: re.Match[str], page: str, repo_url: str | None) -> str:
    text, target, anchor = link.group(2), link.group(3), link.group(4) or ""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    if SCHEME.match(target) or path.startswith("docs/"):
        return link.group(0)
    if path in ADOPTED.values():
        adopted = next(name for name, source in ADOPTED.items() if source == path)
        return f"[{text}]({posixpath.relpath(adopted, posixpath.dirname(page) or '.')}{anchor})"
    if not (REPOSITORY / path).exists():
        return link.group(0)  # mkdocs says that it leads nowhere
    if repo_url:
        return f"[{text}]({repo_url.rstrip('/')}/blob/main/{path}{anchor})"
    return text if text.startswith("`") else f"{text} (`{path}`)" if text != path else f"`{path}`"
