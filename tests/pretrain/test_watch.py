import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lvd_pretrain.checkpoint import newest_checkpoint, read_state
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.recipes import build_config
from lvd_pretrain.scores import Assignment, Scores
from lvd_pretrain.train import pretrain
from lvd_pretrain.watch import Watch, effective_rank

DEVICE = torch.device("cpu")


def fine(value=1.0):
    return {"dino_global": torch.tensor(value), "dino_local": torch.tensor(0.0)}


def test_effective_rank_counts_the_directions_in_use():
    assert effective_rank(torch.ones(8, 16)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.eye(16)[:8]) == pytest.approx(8, rel=1e-5)
    assert effective_rank(torch.eye(16)[torch.arange(64) % 4]) == pytest.approx(4, rel=1e-5)
    assert effective_rank(torch.randn(600, 8)) <= 8


def test_report_gives_entropy_usage_and_rank_of_what_was_seen(tiny):
    watch = Watch(tiny(), DEVICE)
    uniform = torch.full((2, 4, 64), 1 / 64)
    sure = torch.nn.functional.one_hot(torch.arange(8), 64).float().view(2, 4, 64)
    watch.observe(uniform, torch.eye(32)[:8])
    said = watch.report()
    assert said["target_entropy"] == pytest.approx(math.log(64), rel=1e-5)
    assert said["prototype_usage"] == pytest.approx(1 / 64)  # all ties go one way
    assert said["feature_rank"] == pytest.approx(8, rel=1e-4)
    assert said["memory_gib"] > 0
    watch.observe(sure, torch.ones(8, 32))
    watch.observe(sure.roll(20, -1), torch.ones(8, 32))
    said = watch.report()
    assert said["target_entropy"] == pytest.approx(0, abs=1e-6)
    assert said["prototype_usage"] == pytest.approx(16 / 64)  # of both steps, and of them alone
    assert said["feature_rank"] == pytest.approx(1, abs=1e-3)


def test_factored_targets_give_what_dense_ones_do(tiny):
    torch.manual_seed(0)
    scores = Scores(torch.randn(2, 4, 16), torch.randn(64, 16))
    columns = torch.randn(64)
    rows = -(scores.dense() + columns).logsumexp(-1)
    one, other = Watch(tiny(), DEVICE), Watch(tiny(), DEVICE)
    one.observe(Assignment(scores, columns, rows), torch.randn(8, 32))
    other.observe(Assignment(scores, columns, rows).dense(), torch.randn(8, 32))
    for name in ("target_entropy", "prototype_usage"):
        assert one.report()[name] == pytest.approx(other.report()[name], rel=1e-5)


def test_non_finite_gradients_name_step_term_and_rank(tiny):
    watch = Watch(tiny(), DEVICE)
    watch.check(fine(), {"backbone": torch.tensor(2.0)}, 0, logging=False)
    broken = {**fine(), "koleo": torch.tensor(float("nan"))}
    with pytest.raises(FloatingPointError, match=r"step 3.*koleo nan on rank 0.*intact"):
        watch.check(broken, {"backbone": torch.tensor(float("inf"))}, 3, logging=True)
    with pytest.raises(FloatingPointError, match="backward pass overflowed"):
        watch.check(fine(), {"backbone": torch.tensor(float("inf"))}, 3, logging=True)


def test_between_logging_steps_the_flag_is_read_a_step_late_or_when_asked_for(tiny):
    watch = Watch(tiny(), DEVICE)
    broken = {**fine(), "ibot": torch.tensor(float("inf"))}
    watch.check(broken, {"backbone": torch.tensor(float("nan"))}, 3, logging=False)
    with pytest.raises(FloatingPointError, match=r"step 3.*ibot inf on rank 0"):
        watch.check(fine(), {"backbone": torch.tensor(1.0)}, 4, logging=False)
    watch.settle()  # the step itself was fine
    watch.check(broken, {"backbone": torch.tensor(float("nan"))}, 5, logging=False)
    with pytest.raises(FloatingPointError, match=r"step 5.*ibot inf on rank 0"):
        watch.settle()


@pytest.mark.parametrize("words", [("save.every=3",), ("save.every=2",)])
def test_nothing_is_saved_of_a_run_after_a_step_that_was_not_finite(words, tiny, monkeypatch):
    """The third of ten steps breaks, none is logged: with a save after it, and with the next step after it."""
    config = tiny("optim.steps=10", "log_every=10", *words)
    step = SelfDistillation.forward

    def broken_at_the_third(method, views, temperature):
        losses = step(method, views, temperature)
        method.calls = getattr(method, "calls", 0) + 1
        return losses if method.calls < 3 else losses | {"koleo": losses["koleo"] * float("nan")}

    monkeypatch.setattr(SelfDistillation, "forward", broken_at_the_third)
    with pytest.raises(FloatingPointError, match=r"step 2: .*koleo nan on rank 0"):
        pretrain(config)
    kept = [path.name for path in (Path(config.out) / "checkpoints").glob("*")]
    assert kept == (["step_00000002"] if words == ("save.every=2",) else [])


@pytest.mark.parametrize("reason", ["ln K", "one point"])
def test_collapse_stops_after_patience_and_not_before_nor_in_warm_up(reason, tiny):
    watch = Watch(tiny("monitor.patience=5", "optim.warmup=3", "optim.steps=50"), DEVICE)
    norms = {"backbone": torch.tensor(1.0)}
    losses = fine(math.log(64) if reason == "ln K" else 1.0)
    features = torch.ones(8, 32) if reason == "one point" else torch.eye(32)[:8]
    watch.observe(torch.full((2, 4, 64), 1 / 64), features)
    patient = {"ln K": 7, "one point": 8}[reason]  # five steps counted one by one, or five after the first
    for step in range(patient):
        watch.check(losses, norms, step, logging=True)
    with pytest.raises(FloatingPointError, match=f"step {patient}: collapse.*{reason}"):
        watch.check(losses, norms, patient, logging=True)


def test_a_healthy_step_resets_the_count(tiny):
    watch = Watch(tiny("monitor.patience=2", "optim.warmup=0"), DEVICE)
    watch.observe(torch.full((2, 4, 64), 1 / 64), torch.eye(32)[:8])
    for step in range(12):
        losses = fine(math.log(64) if step % 2 else 1.0)
        watch.check(losses, {"backbone": torch.tensor(1.0)}, step, logging=True)


def test_waiting_for_batches_is_counted(tiny):
    watch = Watch(tiny(), DEVICE)

    def slow():
        for number in range(3):
            torch.randn(400, 400) @ torch.randn(400, 400)
            yield number

    watch.observe(torch.full((2, 4, 64), 1 / 64), torch.eye(32)[:8])
    assert list(watch.timed(slow())) == [0, 1, 2]
    assert 0 < watch.report()["data_wait"] <= 1


def test_a_collapsed_run_stops_with_its_last_checkpoint_intact(tiny):
    """Targets at so high a temperature say nothing: the loss stands at ln K from the start."""
    words = ("optim.steps=40", "save.every=4", "monitor.patience=10", "teacher.temperature=[100, 100]")
    config = tiny(*words, "teacher.student_temperature=50", "teacher.centering=ema")
    with pytest.raises(FloatingPointError, match="stood at ln K"):
        pretrain(config)
    checkpoint = newest_checkpoint(Path(config.out) / "checkpoints")
    assert checkpoint is not None
    assert read_state(checkpoint)["step"] == 8


def one_rank(rank: int, store: str, out: str) -> None:
    """What `check` says on one of two ranks: with one of them at ln K, with both, with a broken term on the second."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    config = build_config(None, ["dino_head={prototypes: 64}", "monitor.patience=2", "optim.warmup=0"])
    targets, features, norms = torch.full((2, 4, 64), 1 / 64), torch.eye(32)[:8], {"backbone": torch.tensor(1.0)}
    said = []
    for losses in ((4.2, 1.0)[rank], 4.2):
        watch = Watch(config, DEVICE)
        watch.observe(targets, features)
        for step in range(2):
            try:
                watch.check(fine(losses), norms, step, logging=True)
                said.append("goes on")
            except FloatingPointError as error:
                said.append(str(error))
    try:
        watch.check(fine((1.0, math.inf)[rank]), {"backbone": torch.tensor(math.nan)}, 7, logging=True)
    except FloatingPointError as error:
        said.append(str(error))
    Path(out, f"{rank}.txt").write_text("\n".join(said))
    dist.destroy_process_group()


def test_two_ranks_stop_together_and_name_the_guilty_one(tmp_path):
    words = [str(tmp_path / "store"), str(tmp_path)]
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), *words]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    one, other = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2))
    assert one == other
    assert one[:3] == ["goes on"] * 3
    assert "stood at ln K" in one[3]
    assert "dino_global inf on rank 1)" in one[4]


if __name__ == "__main__":
    one_rank(int(sys.argv[1]), *sys.argv[2:])
