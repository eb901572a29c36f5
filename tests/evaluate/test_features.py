import errno
import io
import json
import logging
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from lvd_evaluate import features as features_module
from lvd_evaluate.config import DataConfig, FeaturesConfig
from lvd_evaluate.encoders.pixels import PixelEncoder
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import extract_features, transform_image
from lvd_evaluate.tasks.classification import load_task

CONFIG = FeaturesConfig(batch_size=8, shard_size=20, threads=2)


@pytest.fixture
def split(corpus):
    return load_task([str(corpus)], DataConfig()).train


def test_the_columns_are_those_of_the_encoder_in_order(split, colour_encoder, tmp_path):
    features = extract_features(colour_encoder, split, tmp_path, CONFIG)
    expected = np.stack([transform_image(content, 18, 16).mean(axis=(1, 2)) / 255 for content in split.read(0, 45)])
    assert features.cls.shape == (45, 4, 3)
    assert features.cls.dtype == torch.float16
    for layer in range(4):
        assert np.allclose(features.cls[:, layer], expected * (layer + 1), rtol=2e-3)
    assert np.allclose(features.patch_mean, expected, rtol=2e-3)
    assert features.labels.tolist() == split.labels.tolist()


def test_the_mean_patch_is_that_of_every_patch_and_the_layers_keep_their_order():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8))
    encoder = PixelEncoder("pixels:16", 16, torch.device("cpu"))
    columns = features_module.encode_batch(encoder, images, "float32")
    (tokens,) = encoder.encode(images, 1)
    assert torch.allclose(columns["patch_mean"], tokens.patches.flatten(1, 2).mean(dim=1))
    assert torch.equal(columns["cls"][:, 0], tokens.cls)


def test_a_second_time_nothing_is_computed(split, colour_encoder, tmp_path):
    first = extract_features(colour_encoder, split, tmp_path, CONFIG)
    calls = colour_encoder.calls
    again = extract_features(colour_encoder, split, tmp_path, CONFIG)
    assert colour_encoder.calls == calls > 0
    assert torch.equal(first.cls, again.cls)
    assert first.seconds == again.seconds


def test_shards_are_read_for_their_checksums_once_and_again_when_someone_wrote_to_them(
    split, colour_encoder, tmp_path, monkeypatch, caplog
):
    read = []
    real = features_module._checksum
    monkeypatch.setattr(features_module, "_checksum", lambda file: read.append(file) or real(file))
    first = extract_features(colour_encoder, split, tmp_path, CONFIG)
    read.clear()
    extract_features(colour_encoder, split, tmp_path, CONFIG)
    assert len(read) == len(set(read)) == 3 * 4  # files of three shards
    read.clear()
    extract_features(colour_encoder, split, tmp_path, CONFIG)
    assert read == []
    damaged = sorted(tmp_path.glob("*/rows-*/cls.npy"))[1]
    with open(damaged, "r+b") as file:  # in place
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    assert torch.equal(extract_features(colour_encoder, split, tmp_path, CONFIG).cls, first.cls)
    assert f"{damaged.parent}: damaged (cls.npy), computed again" in caplog.text
    assert {file.parent for file in read if ".partial" not in str(file)} == {damaged.parent}


def test_batch_size_and_threads_change_no_feature(split, make_encoder, tmp_path):
    other = FeaturesConfig(batch_size=3, shard_size=20, threads=1)
    first = extract_features(make_encoder(), split, tmp_path / "a", CONFIG)
    assert torch.equal(first.cls, extract_features(make_encoder(), split, tmp_path / "b", other).cls)


def test_on_a_cpu_nothing_is_decoded_beside_the_network(split, make_encoder, tmp_path, monkeypatch):
    decoded = []

    class Watching(make_encoder):
        def encode(self, images, layers, *, normed=True):
            before = len(decoded)
            time.sleep(0.02)
            assert len(decoded) == before
            return super().encode(images, layers, normed=normed)

    def counting(*words):
        decoded.append(words)
        return transform_image(*words)

    monkeypatch.setattr(features_module, "transform_image", counting)
    extract_features(Watching(), split, tmp_path, CONFIG)
    assert len(decoded) == 45


@pytest.mark.parametrize("change", ["fingerprint", "image_size", "resize_size", "mean", "std", "loader", "num_layers"])
def test_anything_changed_is_a_new_entry(split, make_encoder, tmp_path, change):
    encoder = make_encoder()
    extract_features(encoder, split, tmp_path, CONFIG)
    setattr(encoder, change, {"fingerprint": "2", "loader": "b", "mean": (0,) * 3, "std": (2,) * 3}.get(change, 3))
    calls = encoder.calls
    extract_features(encoder, split, tmp_path, CONFIG)
    assert encoder.calls > calls
    assert len(list(tmp_path.iterdir())) == 2


class Interrupted(Exception):
    pass


def test_an_interrupted_pass_goes_on_at_the_next_shard(split, make_encoder, tmp_path):
    class Failing(make_encoder):
        def encode(self, images, layers, *, normed=True):
            if self.calls == 4:  # in the second of three shards
                raise Interrupted
            return super().encode(images, layers, normed=normed)

    with pytest.raises(Interrupted):
        extract_features(Failing(), split, tmp_path, CONFIG)
    resumed = make_encoder()
    features = extract_features(resumed, split, tmp_path, CONFIG)
    assert resumed.calls == 4  # 3 batches of the second shard, 1 of the third
    whole = extract_features(make_encoder(), split, tmp_path / "other", CONFIG)
    assert torch.equal(features.cls, whole.cls)


KILLED = """
import hashlib, io, sys, time
from pathlib import Path
import numpy as np, torch
from PIL import Image
from lvd_evaluate.config import FeaturesConfig
from lvd_evaluate.contracts import Split
from lvd_evaluate.encoders.pixels import load_pixels
from lvd_evaluate.features import extract_features

store, pause = Path(sys.argv[1]), float(sys.argv[2])
files = []
for row in range(45):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (row, row, row)).save(buffer, "PNG")
    files.append(buffer.getvalue())
ids = np.array([hashlib.sha256(file).hexdigest() for file in files])
split = Split("train", lambda start, stop: files[start:stop], np.arange(45), ids, "rows")
encoder = load_pixels("pixels:8", "8", torch.device("cpu"))
encode = encoder.encode
encoder.encode = lambda images, layers: (time.sleep(pause), encode(images, layers))[1]
extract_features(encoder, split, store, FeaturesConfig(batch_size=2, shard_size=4, threads=1))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_with_the_same_features(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "store")]
    with subprocess.Popen([*command, "0.3"], env=environment) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("store/*/rows-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    (entry,) = (tmp_path / "store").iterdir()
    kept = {shard.name: shard.stat().st_mtime_ns for shard in entry.glob("rows-*")}
    assert 0 < len(kept) < 12
    subprocess.run([*command, "0"], env=environment, check=True)
    shards = sorted(entry.glob("rows-*"))
    assert len(shards) == 12
    assert {shard.name: shard.stat().st_mtime_ns for shard in shards if shard.name in kept} == kept
    stored = np.concatenate([np.load(shard / "cls.npy") for shard in shards])[:, 0]
    assert np.allclose(stored, np.arange(45)[:, None] / 255, atol=1e-3)


def test_values_beyond_float16_are_kept_as_float32(split, make_encoder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        features = extract_features(make_encoder(scale=1e6), split, tmp_path, CONFIG)
    assert features.cls.dtype == torch.float32
    assert features.cls.isfinite().all()
    assert features.cls.max() > 65504
    assert "float32" in caplog.text


def test_features_that_are_not_finite_are_refused(split, make_encoder, tmp_path):
    with pytest.raises(InputError, match="not finite"):
        extract_features(make_encoder(scale=float("nan")), split, tmp_path, CONFIG)


def test_patches_of_pixels_are_averaged_too(split, tmp_path):
    from lvd_evaluate.encoders.pixels import load_pixels

    features = extract_features(load_pixels("pixels:8", "8", torch.device("cpu")), split, tmp_path, CONFIG)
    assert features.cls.shape == (45, 1, 192)
    assert features.patch_mean.shape == (45, 48)


def test_bfloat16_is_close_and_kept_apart(split, run_folder, tmp_path):
    from lvd_evaluate.encoders import load_encoder

    encoder = load_encoder(str(run_folder), image_size=None, seed=0, device=torch.device("cpu"))
    full = extract_features(encoder, split, tmp_path, CONFIG)
    half = extract_features(encoder, split, tmp_path, FeaturesConfig(precision="bfloat16"))
    similarity = torch.nn.functional.cosine_similarity(full.cls[:, -1].float(), half.cls[:, -1].float())
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(full.cls, half.cls)
    assert similarity.min() > 0.99


def test_a_write_that_fails_keeps_its_errno(split, colour_encoder, tmp_path):
    """A file size limit stands for a full disk: numpy's own write would raise an OSError without errno."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # id.npy takes 5 kB
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011  the errno is what is asked
            extract_features(colour_encoder, split, tmp_path, CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.glob("*/*partial"))


def _encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_the_transform_keeps_the_centre_of_a_wide_image():
    pixels = np.zeros((64, 192, 3), dtype=np.uint8)
    pixels[:, 64:128] = 200  # the middle third
    cut = transform_image(_encode(Image.fromarray(pixels)), 32, 28)
    assert cut.shape == (3, 28, 28)
    assert cut.min() > 190


@pytest.mark.parametrize("size", [(64, 43), (43, 64), (50, 33), (90, 61), (32, 32), (20, 33)])
def test_the_transform_is_torchvisions(size):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    theirs = np.asarray(Compose([Resize(32, InterpolationMode.BICUBIC), CenterCrop(28)])(image)).transpose(2, 0, 1)
    assert np.array_equal(transform_image(_encode(image), 32, 28), theirs)


def test_an_image_of_the_right_size_passes_through_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(transform_image(_encode(Image.fromarray(pixels)), 32, 32), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_colour_mode_becomes_rgb(mode):
    source = Image.new("RGB", (40, 40), (128, 128, 128))
    image = Image.new("I;16", (40, 40), 128) if mode == "I;16" else source.convert(mode)
    assert transform_image(_encode(image, "JPEG" if mode == "CMYK" else "PNG"), 32, 28).shape == (3, 28, 28)


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"])
def test_what_is_no_image_is_said(content, make_image):
    if content == "cut":
        content = make_image(0, np.random.default_rng(0))[:400]
    with pytest.raises(InputError, match="cannot be decoded"):
        transform_image(content, 32, 28)


def test_a_bomb_is_refused():
    bomb = _encode(Image.new("1", (20_000, 20_000)))
    with pytest.raises(InputError, match="DecompressionBomb"):
        transform_image(bomb, 32, 28)


def test_an_image_beyond_the_limit_is_refused_before_or_after_the_resize(monkeypatch):
    monkeypatch.setattr(features_module, "MAX_PIXELS", 5000)
    for size in ((100, 51), (2000, 1)):  # the second grows to 64000x32
        with pytest.raises(InputError, match=f"DecompressionBomb: {size[0]}x{size[1]}"):
            transform_image(_encode(Image.new("1", size)), 32, 28)
    assert transform_image(_encode(Image.new("1", (100, 50))), 32, 28).shape == (3, 28, 28)


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I", "TIFF"), ("F", "TIFF")])
def test_deep_greys_are_scaled_not_clipped(mode, kind):
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    values = {
        "I;16": (ramp * 65535).astype(np.uint16),
        "I": (ramp * 65535).astype(np.int32),
        "F": ramp.astype(np.float32),
    }
    image = Image.fromarray(values[mode])
    assert image.mode == mode
    seen = transform_image(_encode(image, kind), 32, 32)
    assert np.abs(seen - ramp * 255).max() <= 1


def test_a_broken_image_is_named_by_split_and_row(split, make_encoder, tmp_path):
    import dataclasses

    def read(start, stop):
        return [b"broken" if row == 21 else content for row, content in enumerate(split.read(start, stop), start)]

    with pytest.raises(InputError, match="train image 21"):
        extract_features(make_encoder(), dataclasses.replace(split, read=read), tmp_path, CONFIG)


def test_the_manifest_says_what_the_numbers_depend_on(split, colour_encoder, tmp_path):
    extract_features(colour_encoder, split, tmp_path, CONFIG)
    (entry,) = tmp_path.iterdir()
    manifest = json.loads((entry / "manifest.json").read_text())
    assert manifest["model"] == "colour-1"
    assert manifest["split"] == split.fingerprint
    assert (manifest["resize"], manifest["crop"], manifest["precision"]) == (18, 16, "float32")
