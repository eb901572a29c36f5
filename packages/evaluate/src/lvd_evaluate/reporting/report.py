"""From results.jsonl to a Markdown file and one self-contained HTML page."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

from lvd_evaluate.publish import publish_bytes
from lvd_evaluate.reporting.classes import class_differences, confusions
from lvd_evaluate.reporting.figures import draw_bars, draw_class_differences, draw_curves
from lvd_evaluate.reporting.pictures import PictureAlbum, find_pictures
from lvd_evaluate.reporting.tables import (
    Table,
    build_tables,
    markdown_tables,
    markdown_text,
    number,
    table_cells,
    value_cell,
)
from lvd_evaluate.scoring.results import Row, setting_name

__all__ = ["markdown_tables", "write_report"]
Found = TypeVar("Found")
logger = logging.getLogger(__name__)


def write_report(rows: Sequence[Row], folder: Path) -> Path:
    """Write report.html (nothing loaded from elsewhere) and report.md into `folder`; return the page's path.

    Pictures come from `folder`/pictures and `folder`/probes/RUN/pictures, what single classes say from
    `folder`/predictions.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lvd_evaluate", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    album = PictureAlbum()
    sections = [_section(table, rows, folder, album) for table in build_tables(rows)]
    pictures = album.open(find_pictures(folder / "pictures"))
    page = environment.get_template("report.html.j2").render(sections=sections, pictures=pictures, number=number)
    publish_bytes(folder / "report.md", (_markdown(rows) + "\n").encode())
    publish_bytes(folder / "report.html", page.encode(errors="backslashreplace"))
    return folder / "report.html"


def _markdown(rows: Sequence[Row]) -> str:
    """The tables; why models are missing; how each row was made."""
    parts = [markdown_tables(rows)]
    tables = build_tables(rows)
    reasons = dict.fromkeys(reason for table in tables for reason in _reasons(table))
    if reasons:
        parts.append(
            "\n".join(f"- {markdown_text(model)} could not be measured: {markdown_text(why)}" for model, why in reasons)
        )
    made = dict.fromkeys(
        (row.task, row.model, row.probe, row.protocol, row.procedure or "", row.preprocessing or "", row.loader or "")
        for table in tables
        for line in table.lines.values()
        for row in line.values()
        if row.status == "measured"
    )
    head = ("task", "model", "probe", "protocol", "procedure", "preprocessing", "loaded by")
    lines = [head, ("---",) * len(head), *(tuple(markdown_text(cell) for cell in line) for line in made)]
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def _section(table: Table, rows: Sequence[Row], folder: Path, album: PictureAlbum) -> dict[str, Any]:
    """What the page says about one table."""
    header, lines = table_cells(table)
    measured = _measured(table, rows)
    return {
        "table": table,
        "header": header,
        "lines": lines,
        "figures": draw_bars(table),
        "curves": draw_curves(measured),
        "class_figures": [
            {
                "title": f"{found.column.title}: {table.name(table.ours)} minus {found.baseline}",
                "figure": draw_class_differences(found.classes, found.differences, "difference in percent"),
            }
            for found in _if_readable(class_differences, table, folder)
        ],
        "confusions": _if_readable(confusions, table, folder),
        "reasons": _reasons(table),
        "models": _models(measured),
        "details": [{"row": row, "setting": setting_name(row.setting), "value": value_cell(row)} for row in measured],
        "pictures": [
            {"row": row, "pictures": album.open(find_pictures(folder / "probes" / row.run / "pictures"))}
            for row in {row.run: row for row in measured}.values()
        ],
    }


def _if_readable(read: Callable[[Table, Path], list[Found]], table: Table, folder: Path) -> list[Found]:
    """What predictions/ says of single classes; nothing where a file of it is damaged."""
    try:
        return read(table, folder)
    except (BadZipFile, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError, zlib.error) as error:
        logger.warning("%s: not readable (%s): single classes are left out", folder / "predictions", error)
        return []


def _reasons(table: Table) -> list[tuple[str, str]]:
    rows = [row for line in table.lines.values() for row in line.values() if row.reason]
    return list(dict.fromkeys((row.model, row.reason or "") for row in rows))


def _measured(table: Table, rows: Sequence[Row]) -> list[Row]:
    """Every measured setting and metric of the table's runs, model by model."""
    runs = {row.run for line in table.lines.values() for row in line.values()}
    found = [row for row in rows if row.run in runs and row.spec in table.lines and row.status == "measured"]
    return sorted(found, key=lambda row: list(table.lines).index(row.spec))


def _models(rows: Sequence[Row]) -> list[Row]:
    """One row per model and preprocessing: how it was loaded and what images went through."""
    return list({(row.spec, row.preprocessing): row for row in rows}.values())
