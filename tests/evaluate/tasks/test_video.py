import dataclasses
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.errors import InputError
from lvd_evaluate.tasks import video_files
from lvd_evaluate.tasks.video import average_frames, load_video_task, spaced


def _frame(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _value(content: bytes) -> int:
    return Image.open(io.BytesIO(content)).getpixel((0, 0))[0]


def _folder(root: Path, offset: int, clips: dict[str, int], numbering: str = "frame{}.png") -> Path:
    """Clips of so many frames; frame i of clip c is of red 10 c + i + offset."""
    for place, (name, count) in enumerate(clips.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / numbering.format(number)).write_bytes(_frame(offset + 20 * place + number))
    return root


@pytest.fixture
def folders(tmp_path):
    _folder(tmp_path / "train", 0, {"jump/a": 12, "run/b": 3, "run/c": 4})
    _folder(tmp_path / "test", 100, {"jump/x": 8, "run/y": 4})
    return tmp_path


def test_frames_are_the_middles_of_equal_parts():
    assert spaced(8, 8) == list(range(8))
    assert spaced(300, 4) == [37, 112, 187, 262]
    assert spaced(3, 4) == [0, 1, 1, 2]
    assert spaced(1, 3) == [0, 0, 0]


def test_folders_of_frames_become_clips_in_the_order_of_their_numbers(folders):
    task = load_video_task([str(folders)], DataConfig(), 4)
    assert (task.name, task.classes, task.frames_per_clip) == (folders.name, ["jump", "run"], 4)
    assert task.train.labels.tolist() == [0, 1, 1]
    assert task.train.frames.labels.tolist() == [0] * 4 + [1] * 8
    assert len(task.train) == len(set(task.train.ids)) == 3
    everything = [_value(content) for content in task.train.frames.read(0, 12)]
    assert everything == [1, 4, 7, 10, 20, 21, 21, 22, 40, 41, 42, 43]  # frame10 after frame9, not after frame1
    for start, stop in ((0, 3), (3, 9), (11, 12)):
        assert [_value(content) for content in task.train.frames.read(start, stop)] == everything[start:stop]


def test_lists_of_images_in_a_table_are_clips(tmp_path):
    import datasets

    for split, offset in (("train", 0), ("test", 100)):
        clips = [[{"bytes": _frame(offset + 20 * c + i), "path": None} for i in range(4)] for c in range(3)]
        table = datasets.Dataset.from_dict({"shots": clips, "action": ["a", "b", "a"]})
        (tmp_path / split).mkdir()
        table.to_parquet(tmp_path / f"{split}.parquet")
    data = [f"{split}={tmp_path / split}.parquet" for split in ("train", "test")]
    config = DataConfig(clip="shots", label="action", limit_test=2)
    task = load_video_task(data, config, 2)
    assert task.classes == ["a", "b"]
    assert [_value(content) for content in task.train.frames.read(0, 6)] == [1, 3, 21, 23, 41, 43]
    assert (len(task.test), task.test.frames.limited) == (2, True)
    assert load_video_task(data, config, 2).fingerprint == task.fingerprint
    assert load_video_task(data, dataclasses.replace(config, limit_test=1), 2).fingerprint != task.fingerprint
    with pytest.raises(InputError, match="no column 'frames' in train; there are shots, action"):
        load_video_task(data, DataConfig(), 2)
    with pytest.raises(InputError, match="neither a list of images nor a video"):
        load_video_task(data, DataConfig(clip="action", label="shots"), 2)


def test_a_clip_without_frames_is_named(tmp_path):
    import datasets

    clips = [[{"bytes": _frame(1), "path": None}], []]
    for split in ("train", "test"):
        datasets.Dataset.from_dict({"frames": clips, "label": [0, 1]}).to_parquet(tmp_path / f"{split}.parquet")
    data = [f"{split}={tmp_path / split}.parquet" for split in ("train", "test")]
    with pytest.raises(InputError, match="train clip 1: holds no frames"):
        load_video_task(data, DataConfig(), 2)


def test_train_clips_are_no_test(folders):
    with pytest.raises(InputError, match="the very same images"):
        load_video_task([f"train={folders / 'train'}", f"test={folders / 'train'}"], DataConfig(), 2)


def test_encoded_videos_without_a_decoder_name_the_one_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for split in ("train", "test"):
        (tmp_path / split / "run").mkdir(parents=True)
        (tmp_path / split / "run" / "clip.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match=r"lvd-evaluate\[video\]"):
        load_video_task([str(tmp_path)], DataConfig(), 2)


def test_encoded_videos_give_the_frames_asked_for(tmp_path, monkeypatch):
    """Against a stand-in for PyAV: a file of nine bytes is a video of nine frames, each as red as its byte."""

    class Container:
        def __init__(self, file, mode):
            self.content = file.read()

        def __enter__(self):
            return self

        def __exit__(self, *reason):
            return None

        def decode(self, video):
            assert video == 0
            for value in self.content:
                picture = Image.new("RGB", (4, 4), (value, 0, 0))
                yield SimpleNamespace(to_image=lambda picture=picture: picture)

    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(open=Container))
    for split, offset in (("train", 0), ("test", 100)):
        (tmp_path / split / "run").mkdir(parents=True)
        (tmp_path / split / "run" / "clip.mp4").write_bytes(bytes(range(offset, offset + 9)))
        (tmp_path / split / "run" / "short.mp4").write_bytes(bytes([offset + 50]))
    task = load_video_task([str(tmp_path)], DataConfig(), 3)
    assert [_value(content) for content in task.train.frames.read(0, 6)] == [1, 4, 7, 50, 50, 50]
    with pytest.raises(InputError, match="holds no frame"):
        video_files.read_frames(b"", lambda count: [0])


def test_encoded_videos_give_evenly_spaced_frames(tmp_path):
    av = pytest.importorskip("av")
    for split, offset in (("train", 0), ("test", 100)):
        (tmp_path / split / "run").mkdir(parents=True)
        with av.open(str(tmp_path / split / "run" / "clip.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=5)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
            for number in range(9):
                frame = av.VideoFrame.from_image(Image.new("RGB", (16, 16), (offset + 10 * number, 0, 0)))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    task = load_video_task([str(tmp_path)], DataConfig(), 3)
    assert [_value(content) for content in task.train.frames.read(0, 3)] == [10, 40, 70]


def test_a_video_that_cannot_be_decoded_is_said():
    pytest.importorskip("av")
    with pytest.raises(InputError, match="cannot be decoded"):
        video_files.read_frames(b"no video", lambda count: [0])


@pytest.mark.parametrize("how", ["average", "concatenate"])
def test_clips_are_made_of_frames(how):
    generator = np.random.default_rng(0)
    cls, pooled = generator.normal(size=(6, 2, 4)), generator.normal(size=(6, 4))
    labels = torch.tensor([1, 1, 1, 0, 0, 0])
    found = average_frames(Features(torch.from_numpy(cls), torch.from_numpy(pooled), labels, 1.0, 1.0), 3, how)
    assert found.labels.tolist() == [1, 0]
    for clip in range(2):
        frames = slice(3 * clip, 3 * clip + 3)
        for layer in range(2):
            ours = cls[frames, layer].mean(axis=0) if how == "average" else np.concatenate(cls[frames, layer])
            assert np.allclose(found.cls[clip, layer], ours, atol=1e-6)
        ours = pooled[frames].mean(axis=0) if how == "average" else np.concatenate(pooled[frames])
        assert np.allclose(found.patch_mean[clip], ours, atol=1e-6)
