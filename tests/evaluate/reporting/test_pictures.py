import base64
import io

import numpy as np
from PIL import Image

from lvd_evaluate.reporting.pictures import FILE_BYTES, PictureAlbum, find_pictures


def _png(path, side, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_small_pictures_are_carried_as_they_are(tmp_path):
    file = _png(tmp_path / "a.png", 20)
    (picture,) = PictureAlbum().open([file])
    assert picture.name == "a"
    assert base64.b64decode(picture.uri.removeprefix("data:image/png;base64,")) == file.read_bytes()


def test_large_ones_become_smaller(tmp_path):
    file = _png(tmp_path / "a.png", 500)
    assert file.stat().st_size > FILE_BYTES
    (picture,) = PictureAlbum().open([file])
    content = base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,"))
    assert len(content) < file.stat().st_size
    assert Image.open(io.BytesIO(content)).format == "JPEG"


def test_a_full_page_names_the_rest(tmp_path):
    files = [_png(tmp_path / f"{n}.png", 20, n) for n in range(3)]
    album = PictureAlbum(room=2 * files[0].stat().st_size + 50)
    assert [picture.uri is not None for picture in album.open(files)] == [True, True, False]


def test_what_is_no_picture_is_only_named(tmp_path):
    (tmp_path / "x.png").write_bytes(b"<svg onload=alert(1)>")
    (picture,) = PictureAlbum().open([tmp_path / "x.png"])
    assert picture.uri is None


def test_pictures_are_found_in_order_and_a_missing_folder_has_none(tmp_path):
    for name in ("b.png", "a.png"):
        _png(tmp_path / name, 4)
    (tmp_path / "notes.txt").write_text("no")
    assert [file.name for file in find_pictures(tmp_path)] == ["a.png", "b.png"]
    assert find_pictures(tmp_path / "none") == []
