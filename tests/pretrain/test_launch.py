"""What the launcher asked for is what runs, or one line says why not."""

import pytest

from lvd_pretrain.errors import InputError
from lvd_pretrain.launch import build_accelerator


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
