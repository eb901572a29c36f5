import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lvd_curate.columns import MODERATED
from lvd_curate.config import ExecutionConfig, ScreenConfig
from lvd_curate.engine.runner import open_runner
from lvd_curate.errors import InputError
from lvd_curate.reporting.story import PREVIEWS, name_images, open_lineage, open_story, write_previews
from lvd_curate.steps import ImageSet, Screened, screen_inputs


@pytest.fixture
def screened(tmp_path: Path, picture: Callable[..., Image.Image], jpeg: Callable[..., bytes]) -> Screened:
    for seed in range(3):
        (tmp_path / "pool").mkdir(exist_ok=True)
        (tmp_path / f"pool/{seed}.jpg").write_bytes(jpeg(picture(seed, (300, 200))))
    (tmp_path / "pool/broken.jpg").write_bytes(b"nothing")
    with open_runner(tmp_path / "work", ExecutionConfig(engine="inline")) as runner:
        sets = [ImageSet("pool", "web", str(tmp_path / "pool"))]
        return screen_inputs(runner, sets, ScreenConfig(), seeds_first=True)


def usable_ids(screened: Screened) -> list[str]:
    return screened.files.filter(pl.col("reason").is_null())["id"].to_list()


def test_previews_are_small_pictures_by_id(screened: Screened, tmp_path: Path) -> None:
    ids = usable_ids(screened)
    write_previews([*ids[:2], "0" * 64], screened, tmp_path / "previews.parquet")
    table = pl.read_parquet(tmp_path / "previews.parquet")
    assert table.schema == PREVIEWS
    assert table["id"].to_list() == sorted(ids[:2])
    with Image.open(io.BytesIO(table["jpeg"][0])) as preview:
        assert preview.size == (96, 64)


def test_a_file_that_is_gone_has_no_preview_and_is_named(
    screened: Screened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = usable_ids(screened)
    (tmp_path / "pool/1.jpg").unlink()
    write_previews(ids, screened, tmp_path / "previews.parquet")
    assert len(pl.read_parquet(tmp_path / "previews.parquet")) == 2
    assert "no preview of" in caplog.text


def test_an_image_damaged_at_full_size_only_has_no_preview_and_is_named(
    screened: Screened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = usable_ids(screened)
    (tmp_path / "pool/1.jpg").write_bytes(b"no image any more")
    write_previews(ids, screened, tmp_path / "previews.parquet")
    assert len(pl.read_parquet(tmp_path / "previews.parquet")) == 2
    assert "not an image" in caplog.text


def test_nothing_to_show_is_an_empty_table(screened: Screened, tmp_path: Path) -> None:
    write_previews([], screened, tmp_path / "previews.parquet")
    assert pl.read_parquet(tmp_path / "previews.parquet").schema == PREVIEWS


def test_where_faces_are_blurred_previews_are_too(screened: Screened, tmp_path: Path) -> None:
    ids = usable_ids(screened)
    face = {"left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0, "score": 0.9}
    moderated = pl.DataFrame([(ids[0], None, [face]), (ids[1], None, [])], schema=MODERATED, orient="row")
    write_previews(ids, screened, tmp_path / "blurred.parquet", blurred=moderated)
    write_previews(ids, screened, tmp_path / "plain.parquet")
    blurred, plain = (dict(pl.read_parquet(tmp_path / f"{name}.parquet").rows()) for name in ("blurred", "plain"))
    assert blurred.keys() == set(ids[:2])  # nobody looked for faces in the third
    assert blurred[ids[1]] == plain[ids[1]]
    assert blurred[ids[0]] != plain[ids[0]]


def test_a_story_is_scanned_and_its_optional_tables_may_be_absent(told: Path, tmp_path: Path) -> None:
    story = open_story(told)
    assert all(isinstance(table, pl.LazyFrame) for table in story)
    assert story.components.filter(pl.col("cut").is_not_null()).collect().height == 2
    (tmp_path / "story").mkdir()
    for name in ("components", "touches", "clusters", "picks"):
        table = pl.read_parquet(told / f"story/{name}.parquet")
        table.drop("cut", strict=False).write_parquet(tmp_path / f"story/{name}.parquet")
    bare = open_story(tmp_path)
    assert bare.previews.collect().is_empty()
    assert bare.components.collect()["cut"].null_count() == story.components.collect().height
    (tmp_path / "story/picks.parquet").unlink()
    with pytest.raises(InputError, match=r"lacks story/picks\.parquet"):
        open_story(tmp_path)


def test_images_are_named_by_their_first_file(told: Path) -> None:
    lineage = open_lineage(told)
    known = lineage.collect()
    twice = known.filter(pl.col("path") == "0/001.jpg")["id"][0]
    names = name_images(lineage, [twice, "f" * 64])
    assert names.rows() == [(twice, "pool", "web", "0/001.jpg")]
    assert np.array_equal(names.columns, ["id", "role", "source", "path"])
