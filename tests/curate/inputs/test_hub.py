from collections.abc import Iterator
from typing import Any

import datasets
import pytest

from lvd_curate.errors import InputError
from lvd_curate.inputs.hub import parse_hub_id, stream_hub


@pytest.mark.parametrize(
    ("location", "parsed"),
    [
        ("hf:owner/name", ("owner/name", "train")),
        ("hf:owner/na.me-1", ("owner/na.me-1", "train")),
        ("hf:owner/name:test.v2", ("owner/name", "test.v2")),
    ],
)
def test_ids_name_a_dataset_and_a_split(location: str, parsed: tuple[str, str]) -> None:
    assert parse_hub_id(location) == parsed


@pytest.mark.parametrize("location", ["hf:name", "owner/name", "hf:a/b/c", "hf:", "hf:a b/c", "hf:a/b:test[:10%]"])
def test_what_is_no_id_is_refused_with_the_ways(location: str) -> None:
    with pytest.raises(InputError, match=r"is no hub id; give a folder of images, .* hf:OWNER/NAME"):
        parse_hub_id(location)


def offer(monkeypatch: pytest.MonkeyPatch, features: dict[str, Any], count: int) -> None:
    """Make any hub id a dataset of `count` rows."""

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield {"label": number, "picture": {"bytes": b"%d" % number, "path": f"{number}.png"} if number else None}

    stream = datasets.IterableDataset.from_generator(rows, features=datasets.Features(features))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)


def test_rows_come_in_batches_behind_those_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"label": datasets.Value("int64"), "picture": datasets.Image()}, 5)
    batches = list(stream_hub("hf:a/b", 0, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert batches[0] == [{"bytes": None, "path": None}, {"bytes": b"1", "path": "1.png"}]
    assert [row["bytes"] for batch in stream_hub("hf:a/b", 3, 2) for row in batch] == [b"3", b"4"]
    assert list(stream_hub("hf:a/b", 5, 2)) == []


def test_a_dataset_without_images_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"label": datasets.Value("int64")}, 1)
    with pytest.raises(InputError, match="hf:a/b: the hub dataset a/b has no image column"):
        list(stream_hub("hf:a/b", 0, 2))
