from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lvd_curate.columns import SCREENED
from lvd_curate.config import DeduplicateConfig, ScreenConfig
from lvd_curate.copy_detection.copies import CopyBars, Looks, find_copies_between, find_copies_within, score_pairs
from lvd_curate.copy_detection.planted import EDITS, plant_copy
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor, ProcessExecutor
from lvd_curate.stages.screen import screen_file

CONFIG = DeduplicateConfig()
BARS = CopyBars(CONFIG.hash_distance, CONFIG.hash_correlation, 4, 0.6)


def look(folder: Path, name: str, *files: bytes, vectors: np.ndarray | None = None) -> Looks:
    rows = [screen_file(data, ScreenConfig()) for data in files]
    table = pl.DataFrame(rows, schema=SCREENED, orient="row").with_columns(row=pl.int_range(len(files), dtype=pl.Int64))
    np.save(folder / f"{name}.npy", np.frombuffer(b"".join(table["thumbnail"]), dtype="u1").reshape(-1, 1024))
    if vectors is None:
        return Looks(table, folder / f"{name}.npy", None)
    np.save(folder / f"{name}-vectors.npy", vectors.astype("<f2"))
    return Looks(table.with_columns(vector="row"), folder / f"{name}.npy", folder / f"{name}-vectors.npy")


def fine_picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)


def pairs_of(left: Looks, right: Looks | None, folder: Path) -> dict[tuple[int, int], float]:
    bench = Workbench(folder / "work", InlineExecutor(), 10**9)
    found = find_copies_within(left, BARS, bench) if right is None else find_copies_between(left, right, BARS, bench)
    return {
        (a, b): score for part in found for (a, b), score in zip(part.pairs.tolist(), part.scores.tolist(), strict=True)
    }


@pytest.mark.parametrize("edit", EDITS)
def test_planted_copies_are_found_both_ways_and_strangers_are_not(
    edit: str, tmp_path: Path, jpeg: Callable[..., bytes]
) -> None:
    pictures = [fine_picture(seed) for seed in range(24)]
    originals = look(tmp_path, "originals", *map(jpeg, pictures))
    edited = [plant_copy(picture, edit, np.random.default_rng(n)) for n, picture in enumerate(pictures)]
    copies = look(tmp_path, "copies", *edited)
    right = {(n, n) for n in range(24)}
    found = pairs_of(copies, originals, tmp_path)
    assert set(found) <= right
    assert len(found) >= (8 if edit == "crop 25 %" else 23)
    assert set(found) == {pair[::-1] for pair in pairs_of(originals, copies, tmp_path)}


def test_pairs_within_have_the_lower_position_first(tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
    pictures = [fine_picture(seed) for seed in range(6)]
    images = look(tmp_path, "images", *map(jpeg, pictures), *(jpeg(picture, quality=40) for picture in pictures))
    found = pairs_of(images, None, tmp_path)
    assert set(found) == {(n, n + 6) for n in range(6)}
    assert min(found.values()) > 0.95


def test_equal_bytes_are_copies_even_without_structure(tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
    white, grey = jpeg(Image.new("RGB", (64, 64), "white")), jpeg(Image.new("RGB", (64, 64), "grey"))
    assert pairs_of(look(tmp_path, "left", white, grey), look(tmp_path, "right", grey), tmp_path) == {(1, 0): 1.0}


def test_embeddings_add_pairs_above_the_threshold(tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [-0.6, 0.8]])  # cosines 0.8, 0 and -0.6
    images = look(tmp_path, "images", *(jpeg(fine_picture(seed)) for seed in range(3)), vectors=vectors)
    found = pairs_of(images, None, tmp_path)
    assert (0, 1) in found
    assert (0, 2) not in found
    assert found[0, 1] == pytest.approx(0.8, abs=1e-3)
    assert score_pairs(np.array([[0, 1], [0, 2]]), images) == pytest.approx([0.8, -0.6], abs=1e-3)
    assert pairs_of(images, images._replace(table=images.table[1:2]), tmp_path).keys() == {(0, 0), (1, 0)}


def test_thumbnails_score_pairs_mirrored_where_that_fits(tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
    mirrored = fine_picture(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    images = look(tmp_path, "images", *map(jpeg, (fine_picture(0), mirrored, fine_picture(1))))
    scores = score_pairs(np.array([[0, 1], [0, 2]]), images)
    assert scores[0] > 0.95
    assert scores[1] < 0.75


def test_empty_tables_have_no_copies(tmp_path: Path) -> None:
    nothing = look(tmp_path, "nothing")
    assert pairs_of(nothing, nothing, tmp_path) == pairs_of(nothing, None, tmp_path) == {}


def test_workers_change_nothing_and_finished_pieces_are_not_found_again(
    tmp_path: Path, jpeg: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lvd_curate.copy_detection import hash_join

    monkeypatch.setattr(hash_join, "PIECE", 5)
    pictures = [fine_picture(seed // 2) for seed in range(24)]
    images = look(tmp_path, "images", *(jpeg(picture, quality=70 + n) for n, picture in enumerate(pictures)))
    with ProcessExecutor(2) as two:
        benches = [Workbench(tmp_path / "one", InlineExecutor(), 10**9), Workbench(tmp_path / "two", two, 10**9)]
        for bench in benches:
            assert sum(len(part.pairs) for part in find_copies_within(images, BARS, bench)) >= 12
    one, other = (sorted((tmp_path / name).rglob("*.*")) for name in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]
    assert len(one) == 5 + 4
    lost = next(file for file in one if file.name.startswith("pairs"))
    lost.unlink()
    before = {file: file.stat().st_mtime_ns for file in one if file != lost}
    list(find_copies_within(images, BARS, benches[0]))
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]
