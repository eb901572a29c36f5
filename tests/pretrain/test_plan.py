"""What a run will need: the numbers follow recipe and GPUs, nothing is trained."""

import pytest
from typer.testing import CliRunner

from lvd_pretrain.cli import app
from lvd_pretrain.flops import blocks_flops, crop_lists, step_flops
from lvd_pretrain.plan import CORE_IMAGES, plan_run, show_plan


def test_memory_is_the_states_and_the_activations(tiny):
    one = plan_run(tiny(), 1)
    held = one.held
    assert one.states == 5 * held.student  # weights, gradients, two averages, teacher
    assert one.replicated == max(4 * held.student + held.activations, one.states)
    assert one.traffic == 0
    assert one.checkpoint == 4 * held.student


def test_more_gpus_share_the_states_and_nothing_else(tiny):
    two, eight = plan_run(tiny(), 2), plan_run(tiny(), 8)
    assert two.replicated == eight.replicated  # a copy each
    assert two.sharded - eight.sharded == two.states // 2 - eight.states // 8
    assert eight.sharded > eight.held.activations + eight.held.outside
    assert eight.traffic == pytest.approx(2 * eight.held.student * 7 / 8)
    inside = 2 * eight.held.student - eight.held.outside  # fp32: gathered whole, the student's half twice
    assert eight.sharded_traffic == pytest.approx((1.5 * inside + eight.held.outside + eight.held.student) * 7 / 8)


def test_time_follows_the_products(tiny):
    config = tiny()
    plan = plan_run(config, 1)
    assert plan.flops == sum(step_flops(config).values())
    assert plan.seconds(1e12, 0.25) == pytest.approx(plan.flops / 0.25e12)
    assert plan.demand(1e12, 0.25) == pytest.approx(4 / plan.seconds(1e12, 0.25))


def test_what_checkpointing_computes_again_takes_time(tiny):
    plain, again = (plan_run(tiny(f"optim.activation_checkpointing={asked}"), 1) for asked in ("false", "true"))
    large, small = crop_lists(plain.config)
    more = blocks_flops(plain.config, [*large, *small], plain.config.model.drop_path)
    assert again.flops == plain.flops  # the same gradients
    assert again.seconds(1e12, 0.5) - plain.seconds(1e12, 0.5) == pytest.approx(more / 0.5e12)
    assert "more for checkpointing" in show_plan(again)
    assert "more for checkpointing" not in show_plan(plain)


def test_the_command_prints_the_plan_and_trains_nothing(tmp_path, tiny):
    words = ["tiny", "optim.batch_size=8", "model.depth=1", f"out={tmp_path / 'run'}", "--plan", "4"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "4 GPUs x 8 images = a batch of 32; 150 steps see 0.0 million images" in result.stdout
    assert "sharded (FSDP2)" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert not (tmp_path / "run").exists()
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.startswith(("A100", "H100"))}
    assert float(rows["H100"][4]) == pytest.approx(float(rows["H100"][3]) / CORE_IMAGES, abs=0.06)


def test_one_gpu_has_nothing_to_share(tiny):
    assert "sharded" not in show_plan(plan_run(tiny(), 1))
