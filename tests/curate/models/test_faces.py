from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lvd_curate.errors import InputError
from lvd_curate.models.faces import MAX_SIDE, decode_faces, load_faces, prepare_faces, suppress_overlaps


def test_decoding_places_boxes_by_cell_offset_and_log_size() -> None:
    heat = np.zeros((5, 7))
    size, offset = np.zeros((2, 5, 7)), np.zeros((2, 5, 7))
    heat[2, 3], heat[4, 6], heat[0, 0] = 0.9, 0.6, 0.5
    size[:, 2, 3] = np.log([3, 2])  # height, width in cells
    offset[:, 2, 3] = [0.25, -0.5]  # down, right in cells
    corners, scores = decode_faces(heat, size, offset, 0.5)
    np.testing.assert_array_equal(scores, [0.9, 0.6])  # 0.5 is not above 0.5
    np.testing.assert_allclose(corners[0], [8, 5, 16, 17])  # centre ((3 - 0.5 + 0.5) * 4, (2 + 0.25 + 0.5) * 4)
    np.testing.assert_allclose(corners[1], [24, 16, 28, 20])


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


boxes = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 12)] * 2, st.integers(0, 5))


@given(st.lists(boxes, max_size=25), st.sampled_from([0.2, 0.3, 0.5, 0.75]))
def test_what_is_kept_is_what_no_better_kept_box_covers(drawn: list[tuple[int, ...]], limit: float) -> None:
    table = np.array(drawn, dtype=np.float64).reshape(-1, 5)
    corners, scores = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]]), table[:, 4]
    expected: list[int] = []
    for index in sorted(range(len(table)), key=lambda i: (-scores[i], i)):
        if all(overlap(corners[index], corners[other]) < limit for other in expected):
            expected.append(index)
    assert suppress_overlaps(corners, scores, limit).tolist() == expected


def test_large_images_shrink_small_ones_are_only_padded() -> None:
    pixels, size = prepare_faces(Image.new("RGB", (70, 33), (10, 20, 30)))
    assert (pixels.shape, size) == ((3, 64, 96), (70, 33))
    np.testing.assert_array_equal(pixels[:, :33, :70].min(axis=(1, 2)), [10, 20, 30])
    assert pixels[:, 33:].max() == pixels[:, :, 70:].max() == 0
    pixels, size = prepare_faces(Image.new("RGB", (4 * MAX_SIDE, 8)))
    assert (pixels.shape, size) == ((3, 32, MAX_SIDE), (MAX_SIDE, 2))


def draw_lamps(size: tuple[int, int], cells: list[tuple[int, int]], brightness: int = 255) -> Image.Image:
    """Bright cells of 4 x 4 pixels at (column, row) on black."""
    image = Image.new("RGB", size)
    for column, row in cells:
        image.paste((brightness,) * 3, (4 * column, 4 * row, 4 * column + 4, 4 * row + 4))
    return image


def test_boxes_are_fractions_of_the_image_without_its_padding(lamps: Path) -> None:
    detector = load_faces(f"onnx:{lamps}", "cpu")
    found = detector.detect(draw_lamps((100, 50), [(5, 6), (15, 4)]), 0.5)
    assert found.dtype == np.float32
    centres = np.array([[62, 18], [22, 26]])  # equal scores: in reading order
    expected = np.hstack([centres - [8, 12], [[16, 24], [16, 24]]]) / [100, 50, 100, 50]
    np.testing.assert_allclose(found[:, :4], expected, rtol=1e-5)
    np.testing.assert_allclose(found[:, 4], 1 / (1 + np.exp(-2)), rtol=1e-5)


def test_boxes_end_at_the_images_edge(lamps: Path) -> None:
    (face,) = load_faces(f"onnx:{lamps}", "cpu").detect(draw_lamps((40, 40), [(0, 9)]), 0.5)
    np.testing.assert_allclose(face[:4], [0, (38 - 12) / 40, 10 / 40, 14 / 40], rtol=1e-5)


def test_neighbouring_peaks_are_one_face_and_the_threshold_decides(lamps: Path) -> None:
    detector = load_faces(f"onnx:{lamps}", "cpu")
    image = draw_lamps((96, 64), [(8, 8)])
    image.paste(draw_lamps((4, 4), [(0, 0)], 230), (36, 32))  # one cell to the right, less bright
    assert len(detector.detect(image, 0.5)) == 1
    assert len(detector.detect(image, 0.9)) == 0
    assert detector.detect(Image.new("RGB", (33, 35)), 0.5).shape == (0, 5)


def test_a_scaled_image_keeps_its_fractions(lamps: Path) -> None:
    image = draw_lamps((MAX_SIDE, 400), [(50, 30)])
    detector = load_faces(f"onnx:{lamps}", "cpu")
    large = image.resize((2 * MAX_SIDE, 800), Image.Resampling.NEAREST)
    np.testing.assert_allclose(detector.detect(large, 0.5)[0, :4], detector.detect(image, 0.5)[0, :4], atol=1e-5)


def test_models_of_another_layout_or_kind_are_refused(redness: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CenterFace's layout"):
        load_faces(f"onnx:{redness}", "cpu")
    (tmp_path / "page.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="cannot be read as an ONNX model"):
        load_faces(f"onnx:{tmp_path / 'page.onnx'}", "cpu")
