import pytest
import torch

from lvd_pretrain.checkpoint import load_checkpoint, newest_checkpoint, prune_checkpoints, read_state, save_checkpoint
from lvd_pretrain.errors import InputError
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.optim import build_optimizer


def trained(config, seed):
    torch.manual_seed(seed)
    method = SelfDistillation(config)
    optimizer = build_optimizer(method.student, config.model.dims[1], config.optim)
    for parameter in method.student.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    method.update_teacher(0.5)
    return method, optimizer


def test_weights_teacher_centres_and_moments_come_back(tiny, tmp_path):
    config = tiny("teacher.centering=ema")
    method, optimizer = trained(config, 0)
    method.cls_center.value.normal_()
    save_checkpoint(tmp_path, 12, method, optimizer, {"dataset": "abc"})
    path = newest_checkpoint(tmp_path)
    state = read_state(path)
    assert (state["step"], state["dataset"]) == (12, "abc")
    other, moments = trained(config, 1)
    load_checkpoint(path, other, moments)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    for a, b in zip(method.student.parameters(), other.student.parameters(), strict=True):
        for key, value in optimizer.state[a].items():
            assert torch.equal(value, moments.state[b][key])
    for a, b in zip(optimizer.param_groups, moments.param_groups, strict=True):
        assert a["lr_factor"] == b["lr_factor"]
        assert a["part"] == b["part"]


def test_newest_whole_checkpoint_is_found_and_old_ones_go(tiny, tmp_path):
    method, optimizer = trained(tiny(), 0)
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, step, method, optimizer, {})
    (tmp_path / "step_00000099").mkdir()  # no state.json: never finished
    (tmp_path / ".step_00000020.partial").mkdir()
    assert newest_checkpoint(tmp_path).name == "step_00000015"
    prune_checkpoints(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_00000010", "step_00000015"]


def damage(path, how):
    shard = next(path.glob("*.distcp"))
    if how == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif how == "missing shard":
        shard.unlink()
    elif how == "truncated state":
        (path / "state.json").write_text((path / "state.json").read_text()[:9])
    else:
        (path / ".metadata").unlink()


@pytest.mark.parametrize("how", ["truncated shard", "missing shard", "truncated state", "missing metadata"])
def test_a_damaged_checkpoint_is_passed_over_with_a_line(tiny, tmp_path, caplog, how):
    method, optimizer = trained(tiny(), 0)
    for step in (5, 10):
        save_checkpoint(tmp_path, step, method, optimizer, {})
    damage(tmp_path / "step_00000010", how)
    assert newest_checkpoint(tmp_path).name == "step_00000005"
    assert "passing over" in caplog.text
    assert "step_00000010" in caplog.text
    save_checkpoint(tmp_path, 7, method, optimizer, {})
    prune_checkpoints(tmp_path, 1)  # the damaged one does not count as the newest
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_00000007"]


def test_every_so_many_steps_one_is_kept_for_good(tiny, tmp_path):
    method, optimizer = trained(tiny(), 0)
    for step in (5, 10, 15, 20, 25):
        save_checkpoint(tmp_path, step, method, optimizer, {})
        prune_checkpoints(tmp_path, 1, 10)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == [f"step_000000{step}" for step in (10, 20, 25)]


def test_bytes_that_changed_in_place_are_one_clear_error(tiny, tmp_path):
    method, optimizer = trained(tiny(), 0)
    save_checkpoint(tmp_path, 5, method, optimizer, {})
    path = newest_checkpoint(tmp_path)
    shard = next(path.glob("*.distcp"))
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(InputError, match=r"step_00000005 cannot be read.*remove that folder"):
        load_checkpoint(path, method, optimizer)
