"""Folders of images that others made: pipes and links that lead nowhere are no images, nobody is asked for more."""

import os

from lvd_pretrain.sources import walk_files
from lvd_pretrain.train import pretrain


def test_pipes_and_dangling_links_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("nothing")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert list(walk_files(tmp_path)) == []


def test_a_run_over_local_files_connects_to_nothing(tiny, offline):
    with offline():
        out = pretrain(tiny("optim.steps=1", "optim.warmup=0", "trackers=[]"))
    assert (out / "model").is_dir()
