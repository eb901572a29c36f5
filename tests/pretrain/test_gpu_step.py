"""The GPU benchmark's own code, at tiny sizes on a CPU: on a machine with a GPU it must run the first time."""

import json
from pathlib import Path

import pytest

from lvd_pretrain import method

SIZES = {"arch": "vit_tiny", "batch": 2, "global-size": 28, "local-size": 14, "local-number": 2, "prototypes": 64}
TINY = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))] + ["--precision=bf16", "--steps=1"]


@pytest.fixture
def gpu_step(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks import turns
    from benchmarks.pretrain import gpu_step

    monkeypatch.setattr(turns, "RESULTS", tmp_path)
    return gpu_step


@pytest.mark.parametrize("parts", [False, True])
def test_our_contestant_gives_its_figures_or_its_shares(parts, gpu_step, monkeypatch, capsys):
    from benchmarks.pretrain import device_step

    for name in ("dino_loss", "ibot_loss", "koleo_loss"):  # they are wrapped to be timed: put back after the test
        monkeypatch.setattr(method, name, getattr(method, name))
    device_step.main([*TINY, *(["--parts"] if parts else ["--attention", "sdpa"])])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    if parts:
        assert sum(said["shares"].values()) == pytest.approx(1, abs=0.01)
        assert {"attention", "feed-forward", "heads", "losses", "optimizer", "average"} < said["shares"].keys()
        assert min(said["shares"].values()) > 0
    else:
        assert {"seconds", "peak_mib", "reserved_mib", "flops", "matrix_rate", "tokens"} < said.keys()


def figures(seconds: float, peak: float, **more: float) -> dict[str, float]:
    return {"seconds": seconds, "peak_mib": peak, "tokens": 5, "parameters": 7, "first_loss": 11.0, **more}


def test_a_line_has_targets_for_those_that_ran_and_says_who_did_not(gpu_step, tmp_path, monkeypatch):
    ours = figures(0.5, 300, flops=3e12, matrix_rate=10e12)
    others = {"plain": figures(1.5, 900), "lightly_train": {"out_of_memory": True}, "parts": {"shares": {"heads": 1.0}}}
    gpu_step.write("L16", gpu_step.MODELS["L16"], {"ours": ours, **others})
    (line,) = (json.loads(text) for text in (tmp_path / "pretrain.jsonl").read_text().splitlines())
    assert line["contestants"]["ours"]["images_per_second"] == 128
    assert line["contestants"]["ours"]["utilisation"] == pytest.approx(0.6)
    assert line["contestants"]["lightly_train"] == {"out_of_memory": True}
    assert [(target["measured"], target["reached"]) for target in line["targets"]] == [
        (pytest.approx(0.6), True),
        (pytest.approx(3.0), True),
        (pytest.approx(1 / 3), True),
    ]


def test_a_contestant_without_memory_is_a_result_and_any_other_failure_too(gpu_step):
    command = ["python3", "-c"]
    full = gpu_step.measure("full", [*command, "raise SystemExit('torch.OutOfMemoryError: CUDA out of memory')"])
    assert full == {"out_of_memory": True}
    assert gpu_step.measure("broken", [*command, "raise SystemExit('no such kernel')"]) == {"failed": "no such kernel"}


def test_rounds_keep_the_least_of_each_figure_and_contestants_must_see_the_same_work(gpu_step):
    runs = [figures(2.0, 300, matrix_rate=1e12), figures(1.0, 400, matrix_rate=2e12)]
    assert gpu_step.least(runs) == figures(1.0, 300, matrix_rate=2e12)
    assert gpu_step.least([figures(2.0, 300), {"failed": "x"}]) == {"failed": "x"}
    with pytest.raises(AssertionError, match="other tokens"):
        gpu_step.check_same_work({"ours": figures(1, 1), "plain": figures(1, 1) | {"tokens": 6}})
    with pytest.raises(AssertionError, match="other losses"):
        gpu_step.check_same_work({"ours": figures(1, 1), "plain": figures(1, 1) | {"first_loss": 12.0}})
