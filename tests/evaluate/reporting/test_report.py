import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.reporting.report import write_report
from lvd_evaluate.reporting.tables import markdown_tables


def test_the_page_stands_alone_and_escapes_what_users_wrote(report_rows, tmp_path):
    rows = [
        dataclasses.replace(row, model=row.model.replace("ours", "<b>ours</b> & co"), task="<script>alert(1)</script>")
        for row in report_rows
    ]
    page = write_report(rows, tmp_path).read_text()
    assert "<b>ours" not in page
    assert "<script>alert" not in page
    assert "&lt;b&gt;ours&lt;/b&gt; &amp; co" in page
    assert "<svg" in page
    assert "no network" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "<script>alert" not in (tmp_path / "report.md").read_text()


def test_the_markdown_file_holds_tables_reasons_and_how_rows_were_made(report_rows, tmp_path):
    write_report(report_rows, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(markdown_tables(report_rows))
    assert "- open_clip:X/y could not be measured: no network" in text
    assert "| birds | pixels | linear | clean | linear-procedure | short side 256 | timm 1 |" in text


def test_the_page_is_the_same_every_time(report_rows, tmp_path):
    first = write_report(report_rows, tmp_path / "a").read_bytes()
    assert write_report(report_rows, tmp_path / "b").read_bytes() == first


@pytest.mark.parametrize("where", ["pictures", "probes/ours-knn/pictures"])
def test_pictures_are_carried_by_the_page(report_rows, tmp_path, where):
    (tmp_path / where).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / where / "first <i>.png")
    page = write_report(report_rows, tmp_path).read_text()
    assert page.count('src="data:image/png;base64,') == 1
    assert "first &lt;i&gt;" in page


def test_every_row_says_its_protocol_preprocessing_procedure_and_source_of_the_published_number(report_rows, tmp_path):
    report_rows[0] = dataclasses.replace(report_rows[0], published={"value": 0.79, "source": "paper, Table 4"})
    page = write_report(report_rows, tmp_path).read_text()
    assert page.count('<td class="left long">knn-procedure</td>') == 3
    assert "79.0 (paper, Table 4)" in page
    assert page.count('<td class="left long">short side 256</td>') == 5 + 2  # rows, models


def test_a_page_of_models_that_could_not_be_had_is_still_a_page(report_rows, tmp_path):
    gone = [row for row in report_rows if row.status != "measured"]
    assert "could not be measured" in write_report(gone, tmp_path).read_text()
