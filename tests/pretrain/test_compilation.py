import json
import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from lvd_pretrain.compilation import check_compiler
from lvd_pretrain.errors import InputError
from lvd_pretrain.train import pretrain

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keys = ("step", "loss", "dino_global", "dino_local", "ibot", "koleo", "gradient_norm/backbone", "feature_rank")
    return [{key: line[key] for key in keys} for line in lines]


@pytest.mark.slow
def test_compiled_blocks_train_like_plain_ones_and_leave_the_same_checkpoints(tiny, tmp_path):
    options = ("optim.steps=4", "save.every=2", "model.drop_path=0.3", "optim.activation_checkpointing=true")
    plain = pretrain(tiny(*options, f"out={tmp_path / 'plain'}"))
    counters.clear()
    compiled = pretrain(tiny(*options, "model.compile=true", f"out={tmp_path / 'compiled'}"))
    # One graph of the student's blocks and one of the teacher's, whole, for all blocks and steps.
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]

    # What it has saved is nobody's business: the run goes on without compiling.
    shutil.rmtree(compiled / "checkpoints/step_00000004")
    pretrain(tiny(*options, "model.compile=false", f"out={tmp_path / 'compiled'}"))
    for one, other in zip(losses(plain), losses(compiled), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_without_a_compiler_there_is_a_line_and_no_run(monkeypatch, tiny):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"model\.compile=true needs a C\+\+ compiler"):
        pretrain(tiny("optim.steps=1", "model.compile=true"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_compiler(CPU)
    with pytest.raises(InputError, match="Triton"):
        check_compiler(CUDA)
