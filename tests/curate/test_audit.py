"""Is this benchmark in my data?"""

from pathlib import Path

import polars as pl
import pytest

from lvd_curate import AuditRecipe, InputError, audit_dataset, build_config

HERE = {"execution": {"engine": "inline", "device": "cpu"}}


def test_a_set_finds_itself_completely_and_strangers_are_not_found(world: Path, tmp_path: Path) -> None:
    against = {"itself": str(world / "test"), "strangers": str(world / "seeds")}
    config = build_config(AuditRecipe, given=HERE | {"dataset": str(world / "test"), "against": against})
    result = audit_dataset(config, tmp_path / "work")
    assert result.counts.rows() == [("itself", 6, 6), ("strangers", 10, 0)]
    assert result.found["path"].equals(result.found["copy_path"].rename("path"))
    assert result.found["score"].to_list() == [1.0] * 6


def test_weak_copies_are_named_with_their_score(world: Path, tmp_path: Path) -> None:
    config = build_config(
        AuditRecipe, given=HERE | {"dataset": str(world / "pool"), "against": {"test": str(world / "test")}}
    )
    found = audit_dataset(config, tmp_path / "work").found
    pairs = dict(found.select("path", "copy_path").rows())
    assert pairs == {"200.jpg": "b/leak.jpg", "201.jpg": "b/leak-weak.jpg"}
    weak = found.filter(pl.col("path") == "201.jpg")["score"].item()
    assert 0.94 <= weak <= 1
    assert audit_dataset(config, tmp_path / "work").found.equals(found)


def test_it_must_be_said_what_to_look_for() -> None:
    with pytest.raises(InputError, match="--against NAME=PATH"):
        build_config(AuditRecipe, given={"dataset": "x"})


def test_what_one_audit_left_is_not_taken_for_anothers(world: Path, tmp_path: Path) -> None:
    for name in ("before", "after"):
        given = {"dataset": str(world / "test"), "against": {name: str(world / "test")}}
        assert audit_dataset(build_config(AuditRecipe, given=HERE | given), tmp_path / "w").counts.rows() == [
            (name, 6, 6)
        ]


def test_a_set_without_a_usable_image_is_told(world: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.jpg").write_bytes(b"")
    against = {"bad": str(tmp_path / "bad"), "test": str(world / "test")}
    config = build_config(AuditRecipe, given=HERE | {"dataset": str(world / "test"), "against": against})
    with pytest.raises(InputError, match="no image of bad can be compared"):
        audit_dataset(config, tmp_path / "work")


def test_work_stays_out_of_what_is_compared(world: Path) -> None:
    given = {"dataset": str(world / "pool"), "against": {"test": str(world / "test")}}
    with pytest.raises(InputError, match=r"--work .* lies inside the exclude set 'test'"):
        audit_dataset(build_config(AuditRecipe, given=HERE | given), world / "test/work")
