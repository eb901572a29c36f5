import itertools

import datasets
import numpy as np
import pytest
import torch

from lvd_pretrain.data import build_loader, open_source
from lvd_pretrain.errors import InputError
from lvd_pretrain.sources import encoded_image
from lvd_pretrain.streaming import Lane, open_stream
from lvd_pretrain.train import pretrain

STREAM = ("data.streaming=true", "data.shuffle_buffer=6")


@pytest.fixture
def parquet(images, tmp_path):
    """A dataset folder of 24 images in six shards, each image's `index` its place in path order."""
    cells = [{"bytes": path.read_bytes(), "path": None} for path in sorted(images.rglob("*.jpg"))]
    table = datasets.Dataset.from_dict({"image": cells, "index": list(range(24))}).cast_column(
        "image", datasets.Image()
    )
    (tmp_path / "set/data").mkdir(parents=True)
    for shard in range(6):
        part = table.shard(num_shards=6, index=shard)
        part.to_parquet(tmp_path / f"set/data/train-{shard:05d}-of-00006.parquet")
    return tmp_path / "set"


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("lanes", [1, 4, 9])
def test_lanes_share_every_pass_out_and_passes_differ(lanes, parquet, tiny, images):
    source = open_stream(tiny(f"data.path={parquet}", *STREAM).data)
    wanted = sorted(path.read_bytes() for path in images.rglob("*.jpg"))
    orders = []
    for turn in range(8):
        cells = [[encoded_image(cell, None) for cell in source.cells(lane, lanes, turn, 0)] for lane in range(lanes)]
        assert sorted(itertools.chain.from_iterable(cells)) == wanted
        orders.append(cells)
    assert any(order != orders[0] for order in orders)


def test_a_lane_shuffles_and_its_substitutes_leave_the_order_alone(parquet, tiny):
    source = open_stream(tiny(f"data.path={parquet}", *STREAM).data)
    plain, disturbed = (Lane(source, 0, 1, 6, 4, seed=0) for _ in range(2))
    taken = [encoded_image(plain.take(), None) for _ in range(20)]
    assert taken != [encoded_image(cell, None) for cell in source.cells(0, 1, 0, 0)][:20]
    rng = np.random.default_rng(0)
    assert taken == [(disturbed.substitute(rng), encoded_image(disturbed.take(), None))[1] for _ in range(20)]


@pytest.mark.parametrize(("workers", "starts"), [(0, (3, 4)), (2, (3,))])  # spawned workers cost seconds each
def test_a_resumed_stream_gives_the_batches_of_an_uninterrupted_one(workers, starts, parquet, tiny):
    config = tiny(f"data.path={parquet}", f"data.workers={workers}", "optim.steps=7", *STREAM)
    source = open_source(config.data)
    straight = list(build_loader(source, config, 0, 0, 1))
    assert len(straight) == 7
    for start in starts:
        resumed = list(build_loader(source, config, start, 0, 1))
        assert all(same(a, b) for a, b in zip(straight[start:], resumed, strict=True))


def test_ranks_read_different_images(parquet, tiny):
    config = tiny(f"data.path={parquet}", "optim.steps=2", *STREAM)
    first, second = (next(iter(build_loader(open_source(config.data), config, 0, rank, 2))) for rank in range(2))
    assert not torch.equal(first.global_crops, second.global_crops)


@pytest.mark.parametrize("form", ["saved", "tars", "file"])
def test_other_forms_stream_too(form, parquet, tiny, images, tmp_path):
    column = "image"
    if form == "saved":
        datasets.load_dataset(str(parquet), split="train").save_to_disk(tmp_path / "saved")
        path = tmp_path / "saved"
    elif form == "file":
        path = next((parquet / "data").iterdir())
    else:
        import tarfile

        for shard in range(2):
            with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as archive:
                for file in sorted(images.rglob("*.jpg"))[shard * 12 : shard * 12 + 12]:
                    archive.add(file, arcname=file.name)
        path, column = tmp_path / "s-{0..1}.tar", "jpg"
    config = tiny(f"data.path='{path}'", f"data.column={column}", "optim.steps=1", *STREAM)
    (batch,) = build_loader(open_source(config.data), config, 0, 0, 1)
    assert batch.skipped == 0


def test_unreadable_images_of_a_stream_are_replaced_and_counted(parquet, tiny):
    table = datasets.Dataset.from_dict({"image": [{"bytes": b"no", "path": None}] * 12})
    table.cast_column("image", datasets.Image(decode=False)).to_parquet(parquet / "data/train-00006-of-00007.parquet")
    config = tiny(f"data.path={parquet}", "optim.steps=9", *STREAM)
    batches = list(build_loader(open_source(config.data), config, 0, 0, 1))
    assert sum(batch.skipped for batch in batches) >= 12
    assert all(len(batch.global_crops) == 8 for batch in batches)


def test_a_streamed_run_goes_on_with_the_same_readers_only(parquet, tiny):
    words = (f"data.path={parquet}", "optim.steps=4", "save.every=2", *STREAM)
    pretrain(tiny(*words))
    with pytest.raises(InputError, match=r"readers.*\[1, 1\], now \[1, 2\]"):
        pretrain(tiny(*words, "data.workers=2"))


def test_what_cannot_be_streamed_is_named(parquet, images, tiny):
    for words, said in (
        ([f"data.path={images}"], "need no streaming"),
        ([f"data.path={parquet}", "data.column=picture"], "image, index"),
        ([f"data.path={parquet}", "data.split=test"], "'test' cannot be streamed"),
        (["data.path=/nowhere.parquet"], "cannot be streamed"),
    ):
        with pytest.raises(InputError, match=said):
            open_source(tiny(*words, *STREAM).data)
    config = tiny(f"data.path={parquet}", "optim.batch_size=32", *STREAM)
    with pytest.raises(InputError, match="below its batch of 32"):
        next(iter(build_loader(open_source(config.data), config, 0, 0, 1)))
    with pytest.raises(InputError, match=r"leave .* out"):
        tiny("data.weights={a: 1}", *STREAM)
