import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from lvd_curate.errors import InputError
from lvd_curate.inputs import hub
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
    """Make any hub id a dataset of `count` rows, typed as the hub's Parquet files are; the first lacks its picture."""
    pictures = [{"bytes": b"%d" % number, "path": f"{number}.png"} if number else None for number in range(count)]
    columns = {"label": list(range(count)), "picture": pictures}
    rows = {name: columns[name] for name in features}
    stream = datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    monkeypatch.setattr(hub, "prefer_cache_if_unreachable", lambda: None)


def test_rows_come_in_batches_behind_those_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"label": datasets.Value("int64"), "picture": datasets.Image()}, 5)
    batches = list(stream_hub("hf:a/b", 0, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert batches[0] == [{"bytes": None, "path": None}, {"bytes": b"1", "path": "1.png"}]
    assert [row["bytes"] for batch in stream_hub("hf:a/b", 3, 2) for row in batch] == [b"3", b"4"]
    assert list(stream_hub("hf:a/b", 5, 2)) == []


def test_a_hub_that_is_lost_on_the_way_says_how_far_it_came_and_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number in range(3):
            yield {"picture": {"bytes": b"%d" % number, "path": f"{number}.png"}}
        raise ConnectionResetError(104, "Connection reset by peer")

    stream = datasets.IterableDataset.from_generator(rows, features=datasets.Features({"picture": datasets.Image()}))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    monkeypatch.setattr(hub, "prefer_cache_if_unreachable", lambda: None)
    batches = stream_hub("hf:a/b", 0, 2)
    assert len(next(batches)) == 2
    with pytest.raises(InputError, match=r"hf:a/b: the stream broke behind 2 images \(.*reset.*again to go on"):
        next(batches)
    with pytest.raises(InputError, match="hf:a/b cannot be reached"):
        list(stream_hub("hf:a/b", 0, 4))


def test_a_dataset_without_images_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"label": datasets.Value("int64")}, 1)
    with pytest.raises(InputError, match="hf:a/b: the hub dataset a/b has no image column"):
        list(stream_hub("hf:a/b", 0, 2))


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """No network and an empty cache; what was asked of the network."""
    from huggingface_hub import constants

    asked: list[Any] = []

    def refuse(address: Any, *rest: Any, **options: Any) -> None:
        asked.append(address)
        raise OSError("no route")

    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    hub.prefer_cache_if_unreachable.cache_clear()
    yield asked
    hub.prefer_cache_if_unreachable.cache_clear()


def test_a_silent_hub_is_asked_once_and_a_dataset_there_is_one_clear_line(questions: list[Any]) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match="hf:nobody/nothing cannot be reached"):
            list(stream_hub("hf:nobody/nothing", 0, 2))
    assert len(questions) == 1


@pytest.mark.parametrize(
    "spec", ["transformers:nobody/nothing", "open_clip:ViT-B-32/laion2b_s34b_b79k", "timm:vit_tiny_patch16_224"]
)
def test_an_encoder_of_a_silent_hub_is_one_clear_line(spec: str, questions: list[Any]) -> None:
    from lvd_curate.models.encoders import load_encoder

    with pytest.raises(InputError, match="cannot be read"):
        load_encoder(spec)
    assert len(questions) == 1


def test_behind_a_proxy_nothing_is_assumed(questions: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    hub.prefer_cache_if_unreachable()
    assert not questions
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [
        ("https://huggingface.co", ("huggingface.co", 443)),
        ("http://mirror.invalid", ("mirror.invalid", 80)),
        ("http://mirror.invalid:8080/hub", ("mirror.invalid", 8080)),
    ],
)
def test_a_mirror_is_asked_where_it_listens(
    questions: list[Any], monkeypatch: pytest.MonkeyPatch, endpoint: str, asked: tuple[str, int]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    hub.prefer_cache_if_unreachable()
    assert questions == [asked]
