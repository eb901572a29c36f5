import json
from pathlib import Path

import lvd_curate
from lvd_curate.reporting.pages import render, script_json


def test_names_are_one_line_in_every_template() -> None:
    view = {"name": "two\nlines \u202eback", "mode": "m", "size": "n<1K", "images": 0, "config": {"exclude": {}}}
    view["config"] |= {"moderate": {"blur_faces": False}}
    view["counts"] = {"images": {"pool": 0, "seeds": 0}, "files": {"pool": 0}, "funnel": {"pool": []}, "touched": {}}
    view["counts"]["moderation"] = {"scored": 0, "searched": 0}
    assert "# two\\nlines \\u202eback\n" in render("card.md.j2", view)


def test_json_cannot_end_its_script() -> None:
    text = script_json({"</script>": "<!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": "<!-- & \u2028"}


def test_templates_are_part_of_the_package() -> None:
    folder = Path(str(lvd_curate.__file__)).parent / "templates"
    named = {"card.md.j2", "report.html.j2", "shapes.html.j2", "report.css", "report.js"}
    assert {file.name for file in folder.iterdir()} == named
