"""Single steps as functions: each gives what the whole pipeline would, and works without images on vectors alone."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from lvd_curate import (
    BalanceRecipe,
    DedupRecipe,
    EmbedRecipe,
    InputError,
    RetrieveRecipe,
    balance,
    build_config,
    dedup,
    embed,
    retrieve,
)

HERE = {"execution": {"engine": "inline", "device": "cpu"}}


def with_encoder(encoder: Path, **more: object) -> dict[str, object]:
    return HERE | {"embed": {"encoder": str(encoder)}} | more


def test_embeddings_are_unit_vectors_of_every_usable_file(world: Path, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.parquet"
    rows = embed(build_config(EmbedRecipe, given=with_encoder(encoder, pool={"p": str(world / "pool")})), out)
    table = pq.read_table(out)
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat>[32]"
    vectors = np.stack([np.array(value, dtype=np.float32) for value in table["embedding"].to_pylist()])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    assert rows["path"].to_list() == table["path"].to_pylist()
    assert {"a/00.jpg", "b/mislabelled.jpg"} <= set(rows["path"])
    assert "b/exact.jpg" not in rows["path"]  # the bytes of a/00.jpg: one image, one vector
    given = {"pool": {"v": f"embeddings:{out}"}, "rebalance": {"target_size": 5, "levels": [4]}}
    again = balance(build_config(BalanceRecipe, given=HERE | given), tmp_path / "again.parquet")
    assert (len(again), again["kept"].sum()) == (len(rows), 5)
    assert not {"b/empty.jpg", "b/page.jpg", "b/cut.jpg", "b/tiny.png"} & set(rows["path"])


def test_copies_are_grouped_and_every_file_has_its_line(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "copies.parquet"
    rows = dedup(build_config(DedupRecipe, given=HERE | {"pool": {"p": str(world / "pool")}}), out)
    assert rows.equals(pl.read_parquet(out))
    lines = {row["path"]: row for row in rows.to_dicts()}
    assert len(lines) == len(rows) == 41
    assert lines["b/weak.jpg"]["component"] == lines["a/02.jpg"]["component"]
    assert (lines["b/weak.jpg"]["status"], lines["a/02.jpg"]["status"]) == ("dropped", "kept")
    assert lines["b/exact.jpg"]["reason"] == "exact copy"
    assert lines["b/page.jpg"]["reason"] == "not an image"
    assert lines["a/05.jpg"]["component"] != lines["a/06.jpg"]["component"]


def test_what_is_like_the_seeds(world: Path, encoder: Path, tmp_path: Path) -> None:
    sets = {"pool": {"p": str(world / "pool")}, "seeds": {"s": str(world / "seeds")}}
    config = build_config(RetrieveRecipe, given=with_encoder(encoder, **sets, retrieve={"mode": "sample"}))
    rows = retrieve(config, tmp_path / "picks.parquet")
    assert rows["rank"].max() == 4
    assert rows["seed_path"].n_unique() == 10
    assert rows["path"].null_count() == 0
    assert (
        (rows.sort("seed_id", "rank").group_by("seed_id", maintain_order=True).agg("similarity"))["similarity"]
        .list.eval(pl.element().diff() <= 1e-6)
        .list.all()
        .all()
    )
    assert "b/seed.jpg" not in rows["path"]  # the very bytes of a seed are no find


def test_a_target_size_is_met(world: Path, encoder: Path, tmp_path: Path) -> None:
    knobs = with_encoder(encoder, pool={"p": str(world / "pool")}, rebalance={"target_size": 7, "levels": [6, 3]})
    rows = balance(build_config(BalanceRecipe, given=knobs), tmp_path / "kept.parquet")
    assert rows["kept"].sum() == 7
    assert rows["id"].is_unique().all()
    assert rows["clusters"].list.len().unique().to_list() == [2]


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    """Vectors without images: 60 in three bundles, and 3 seeds in the middle of the first bundle."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(3, 16))
    vectors = np.repeat(centres, 20, axis=0) + 0.05 * draw.normal(size=(60, 16))
    vectors[1] = vectors[0]
    for name, rows in (("pool", vectors), ("seeds", centres[:1] + 0.01 * draw.normal(size=(3, 16)))):
        np.save(tmp_path / f"{name}.npy", rows.astype(np.float32))
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}-{row}\n" for row in range(len(rows))))
    return tmp_path / "pool.npy", tmp_path / "seeds.npy"


def test_vectors_alone_are_enough(given: tuple[Path, Path], tmp_path: Path) -> None:
    pool, seeds = ({"v": f"embeddings:{file}"} for file in given)
    knobs = HERE | {"pool": pool, "deduplicate": {"threshold": 0.9999}}
    groups = dedup(build_config(DedupRecipe, given=knobs), tmp_path / "copies.parquet")
    assert groups.filter(pl.col("id") != pl.col("representative"))["path"].to_list() == ["v/pool-1"]
    knobs = HERE | {"pool": pool, "seeds": seeds, "retrieve": {"mode": "sample", "neighbours": 5}}
    picks = retrieve(build_config(RetrieveRecipe, given=knobs), tmp_path / "picks.parquet")
    assert len(picks) == 15
    assert {int(path.rpartition("-")[2]) // 20 for path in picks["path"]} == {0}
    knobs = HERE | {"pool": pool, "rebalance": {"target_size": 6, "levels": [3]}}
    kept = balance(build_config(BalanceRecipe, given=knobs), tmp_path / "kept.parquet").filter("kept")
    assert sorted(int(path.rpartition("-")[2]) // 20 for path in kept["path"]) == [0, 0, 1, 1, 2, 2]


def test_vectors_of_two_encoders_do_not_mix(given: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(given[1], np.ones((3, 8), dtype=np.float32))
    pool, seeds = ({"v": f"embeddings:{file}"} for file in given)
    with pytest.raises(InputError, match="8 and 16 dimensions"):
        retrieve(build_config(RetrieveRecipe, given=HERE | {"pool": pool, "seeds": seeds}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="give images everywhere, or embeddings:FILE everywhere"):
        build_config(RetrieveRecipe, given={"pool": pool, "seeds": {"s": "somewhere"}})


def test_no_file_is_written_over(world: Path, tmp_path: Path) -> None:
    config = build_config(DedupRecipe, given=HERE | {"pool": {"p": str(world / "pool")}})
    (tmp_path / "x.parquet").write_bytes(b"mine")
    for name, complaint in (
        ("x.parquet", "there already"),
        ("x.csv", "ending in .parquet"),
        ("a/x.parquet", "no folder"),
    ):
        with pytest.raises(InputError, match=complaint):
            dedup(config, tmp_path / name)
    assert (tmp_path / "x.parquet").read_bytes() == b"mine"


def test_a_seed_that_is_in_the_pool_too_asks_once(given: tuple[Path, Path], tmp_path: Path) -> None:
    ids = [f"{number:064x}" for number in range(60)]
    for file, names in zip(given, (ids, [ids[0], "e" * 64, "f" * 64]), strict=True):
        file.with_suffix(".txt").write_text("\n".join(names) + "\n")
    pool, seeds = ({"v": f"embeddings:{file}"} for file in given)
    knobs = HERE | {"pool": pool, "seeds": seeds, "retrieve": {"mode": "sample", "neighbours": 5}}
    picks = retrieve(build_config(RetrieveRecipe, given=knobs), tmp_path / "picks.parquet")
    assert picks.group_by("seed_id").len()["len"].to_list() == [5, 5, 5]
    assert ids[0] not in picks["id"]


def test_equal_names_in_different_sets_are_different_images(given: tuple[Path, Path], tmp_path: Path) -> None:
    for file, count in zip(given, (60, 3), strict=True):
        named = {
            "path": [f"{number // 2}.jpg" for number in range(count)],
            "source": ["ab"[n % 2] for n in range(count)],
        }
        pl.DataFrame(named).write_parquet(file.with_suffix(".parquet"))
        file.with_suffix(".txt").unlink()
    pool, seeds = ({"v": f"embeddings:{file}"} for file in given)
    groups = dedup(build_config(DedupRecipe, given=HERE | {"pool": pool}), tmp_path / "copies.parquet")
    assert groups["id"].n_unique() == groups["path"].n_unique() == 60
    knobs = HERE | {"pool": pool, "seeds": seeds, "retrieve": {"mode": "sample", "neighbours": 60}}
    picks = retrieve(build_config(RetrieveRecipe, given=knobs), tmp_path / "picks.parquet")
    assert (len(picks), picks["id"].n_unique(), picks["seed_id"].n_unique()) == (180, 60, 3)


def test_vectors_without_direction_are_no_pool(given: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(given[0], np.zeros((60, 16), dtype=np.float32))
    knobs = HERE | {"pool": {"v": f"embeddings:{given[0]}"}, "rebalance": {"target_size": 6}}
    with pytest.raises(InputError, match="the pool hold no finite vector"):
        balance(build_config(BalanceRecipe, given=knobs), tmp_path / "kept.parquet")


def test_vectors_found_by_name_follow_the_names(world: Path, given: tuple[Path, Path], tmp_path: Path) -> None:
    named = {"path": [f"{number:02d}.jpg" for number in range(60)], "source": ["p"] * 60}
    pl.DataFrame(named).write_parquet(given[0].with_suffix(".parquet"))
    out = tmp_path / "vectors.parquet"
    spec = {"embed": {"encoder": f"embeddings:{given[0]}"}}
    assert len(embed(build_config(EmbedRecipe, given=HERE | spec | {"pool": {"p": str(world / "pool/a")}}), out)) == 30
    out.unlink()
    with pytest.raises(InputError, match="no finite vector"):  # of the same files by another name
        embed(build_config(EmbedRecipe, given=HERE | spec | {"pool": {"q": str(world / "pool/a")}}), out)


def test_nothing_is_written_into_an_input(world: Path) -> None:
    config = build_config(DedupRecipe, given=HERE | {"pool": {"p": str(world / "pool")}})
    with pytest.raises(InputError, match="lies inside the pool set 'p'"):
        dedup(config, world / "pool/copies.parquet")
