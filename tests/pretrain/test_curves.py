import json
from xml.etree import ElementTree

from lvd_pretrain.curves import POINTS, draw_curves, read_curves

SVG = "{http://www.w3.org/2000/svg}"


def test_terms_are_read_up_to_the_step_and_thinned(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "ibot": 1 / step, "koleo": -1.0, "lr": 0.1}) for step in range(1, 1001)]
    path.write_text("\n".join(lines) + '\n{"step": 10')
    curves = read_curves(path, 900)
    assert list(curves) == ["ibot", "koleo"]
    assert len(curves["ibot"]) <= POINTS
    assert curves["ibot"][0] == (1, 1.0)
    assert all(step <= 900 for step, _ in curves["ibot"])
    assert read_curves(tmp_path / "none.jsonl", 5) == {}


def test_the_picture_is_well_formed_and_its_points_lie_inside():
    picture = draw_curves({"ibot": [(5, 2.0), (10, 1.0)], "koleo": [(5, -1.0), (10, -0.5)]})
    root = ElementTree.fromstring(picture)
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 2
    points = [tuple(map(float, point.split(","))) for line in lines for point in line.get("points").split()]
    assert all(0 <= x <= 720 and 0 <= y <= 280 for x, y in points)
    assert points[0][1] < points[1][1]  # a falling loss falls
    assert "ibot 1.000" in picture


def test_one_point_is_enough():
    picture = draw_curves({"ibot": [(1, 0.0)]})  # no range to scale by, in steps or in loss
    ElementTree.fromstring(picture)
    assert "ibot 0.000" in picture
    assert "nan" not in picture
