"""What the launcher asked for is what runs, or one line says why not."""

import pytest
import torch
import torch.nn.functional as F

from lvd_pretrain.errors import InputError
from lvd_pretrain.launch import build_accelerator, set_matrix_precision
from lvd_pretrain.losses import ibot_loss
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import sinkhorn_knopp


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP1 was asked for.*--fsdp_version 2"),
        ({}, "FSDP1 was asked for"),
        ({"FSDP_VERSION": "2", "WORLD_SIZE": "1"}, "one process has nothing to shard"),
        ({"FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "fsdp_cpu_ram_efficient_loading false"),
        ({"FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "optim.activation_checkpointing=true"),
    ],
)
def test_a_sharded_launch_that_would_not_work_is_refused(tiny, monkeypatch, environment, message):
    for name, value in {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        build_accelerator(tiny())


def test_a_launch_that_would_train_several_models_is_refused(tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # and nothing that tells Accelerate of ranks
    with pytest.raises(InputError, match="started 2 processes, but each would train alone"):
        build_accelerator(tiny())


def test_gradient_accumulation_is_refused(tiny, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    with pytest.raises(InputError, match="gradient accumulation"):
        build_accelerator(tiny())


def test_compiling_by_the_launcher_is_refused_for_the_recipes(tiny, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    with pytest.raises(InputError, match=r"model\.compile=true"):
        build_accelerator(tiny())


@pytest.mark.parametrize(
    ("device", "precision", "said"),
    [("cuda", "bf16", ["high"]), ("cuda", "fp32", ["highest"]), ("cpu", "bf16", ["highest"])],
)
def test_products_of_float32_are_rounded_on_a_gpu_under_bf16_alone(device, precision, said, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    set_matrix_precision(torch.device(device), precision)
    assert asked == said


def test_factors_of_ten_bits_move_the_loss_less_than_the_features_own_rounding_does():
    """What TF32 does to logits beside what bf16 layers did to the features before them."""
    torch.manual_seed(0)
    teacher, student = (F.normalize(torch.randn(256, 64), dim=-1) for _ in range(2))
    weight = F.normalize(torch.randn(512, 64), dim=-1)

    def loss(round_features, round_factors) -> float:
        theirs, ours = (
            Scores(round_factors(round_features(features)), round_factors(weight)).dense()
            for features in (teacher, student)
        )
        return float(ibot_loss(sinkhorn_knopp(theirs, 0.04, 3), ours, torch.ones(256), 256, 0.1))

    exact = loss(torch.Tensor.clone, torch.Tensor.clone)
    features_rounded = loss(lambda x: x.bfloat16().float(), torch.Tensor.clone)
    factors_rounded = loss(torch.Tensor.clone, lambda x: x.half().float())  # ten bits, and these lie in its range
    assert 0 < abs(factors_rounded - exact) < abs(features_rounded - exact)
