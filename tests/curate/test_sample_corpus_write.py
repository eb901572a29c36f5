import hashlib
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from lvd_curate.errors import InputError
from lvd_curate.sample_corpus import build_sample_corpus, files

IMAGES = 60


def contents(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("world") / "corpus"
    build_sample_corpus(out, images=IMAGES, seed=5, workers=1)
    return out


def test_everything_is_there(corpus):
    assert len(list((corpus / "pool").rglob("*.jpg"))) == IMAGES
    assert len(list((corpus / "seeds").glob("*.jpg"))) == 12
    assert (
        pl.read_parquet(corpus / "train/data/*.parquet", columns=["label"])["label"].value_counts()["count"].to_list()
        == [2] * 12
    )
    assert pl.read_parquet(corpus / "test/data/*.parquet", columns=["label"]).height == 12
    truth = pl.read_parquet(corpus / "truth.parquet")
    assert set(truth["path"]) == {str(path.relative_to(corpus)) for path in (corpus / "pool").rglob("*.jpg")}
    assert json.loads((corpus / "corpus.json").read_text())["seed"] == 5
    assert not list(corpus.rglob(".*"))
    assert [path.name for path in corpus.parent.iterdir()] == ["corpus"]


def test_copies_in_the_pool_are_what_the_truth_says(corpus):
    truth = pl.read_parquet(corpus / "truth.parquet")
    exact = truth.filter(pl.col("kind") == "exact_copy").to_dicts()
    assert exact
    for row in exact:
        assert (corpus / row["path"]).read_bytes() == (corpus / row["of"]).read_bytes()
    tests = pl.read_parquet(corpus / "test/data/*.parquet", columns=["image"])["image"].to_list()
    planted = [row for row in truth.to_dicts() if row["kind"] == "test_copy" and '"bytes"' in row["parameters"]]
    for row in planted:
        assert (corpus / row["path"]).read_bytes() == tests[int(row["of"].removeprefix("test/"))]["bytes"]


def test_two_processes_write_the_same_bytes(corpus, tmp_path):
    build_sample_corpus(tmp_path / "other", images=IMAGES, seed=5, workers=2)
    assert contents(tmp_path / "other") == contents(corpus)


def test_an_interrupted_run_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    write, written = files.pool_file, []

    def stop_at_the_forty_first(seed, entry):
        if len(written) == 40:
            raise KeyboardInterrupt
        written.append(entry.path)
        return write(seed, entry)

    monkeypatch.setattr(files, "pool_file", stop_at_the_forty_first)
    with pytest.raises(KeyboardInterrupt):
        build_sample_corpus(tmp_path / "out", images=IMAGES, seed=5, workers=1)
    assert not (tmp_path / "out").exists()

    first = set(written)
    monkeypatch.setattr(files, "pool_file", lambda seed, entry: (written.append(entry.path), write(seed, entry))[1])
    build_sample_corpus(tmp_path / "out", images=IMAGES, seed=5, workers=1)
    assert len(written) == IMAGES
    assert len(first) == 40
    assert contents(tmp_path / "out") == contents(corpus)


def test_leftovers_of_other_arguments_are_not_used(corpus, tmp_path, monkeypatch):
    def stop(seed, part, indices):
        raise KeyboardInterrupt

    whole = files.labelled_images
    monkeypatch.setattr(files, "labelled_images", stop)
    with pytest.raises(KeyboardInterrupt):
        build_sample_corpus(tmp_path / "out", images=IMAGES, seed=6, workers=1)
    monkeypatch.setattr(files, "labelled_images", whole)
    build_sample_corpus(tmp_path / "out", images=IMAGES, seed=5, workers=1)
    assert contents(tmp_path / "out") == contents(corpus)


def test_a_finished_corpus_is_left_alone(corpus, caplog):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    with caplog.at_level("INFO"):
        build_sample_corpus(corpus, images=IMAGES, seed=5, workers=1)
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_other_arguments_or_other_contents_are_refused(corpus, tmp_path):
    with pytest.raises(InputError, match="other arguments"):
        build_sample_corpus(corpus, images=IMAGES, seed=4, workers=1)
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not a sample corpus"):
        build_sample_corpus(tmp_path, images=IMAGES, seed=5, workers=1)
    with pytest.raises(InputError, match="not a sample corpus"):
        build_sample_corpus(tmp_path / "mine.txt", images=IMAGES, seed=5, workers=1)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_an_empty_folder_may_become_the_corpus(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    build_sample_corpus(tmp_path / "out", images=24, seed=1, workers=1)
    assert (tmp_path / "out/truth.parquet").exists()
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"images": 3}, "images=3"), ({"seed": -1}, "seed=-1"), ({"workers": 0}, "workers=0")],
)
def test_unusable_arguments(tmp_path, arguments, word):
    with pytest.raises(InputError, match=word):
        build_sample_corpus(tmp_path / "out", **({"images": 60, "seed": 0, "workers": 1} | arguments))
    assert not list(tmp_path.iterdir())
