"""What two economies of `evaluate depth` save: one backbone pass for all heads, and enlarging late.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluate.dense_heads [--steps 3] [--rounds 2]

A ViT-S/14 with random weights reads 4 random images of 168x224 pixels a step. (1) lin.1 and lin.4 under three learning
rates: six heads on one pass per batch, against six runs of one head. (2) One lin.4 head, forward and backward: logits
enlarged four times, against the protocol as it is written, tokens with the class token beside each enlarged first.
Both ways in turn, the least CPU time counts; checks that weights and depths are equal, prints the ratios, and appends
one JSON line to benchmarks/results/evaluate.jsonl.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.turns import Target, record
from torch import Tensor

from lvd_evaluate.config import DepthConfig
from lvd_evaluate.contracts import Encoder
from lvd_evaluate.dense.depth_heads import BinsHead, TokenMaps, build_head, expected_depth
from lvd_evaluate.dense.depth_training import Candidate, build_candidates, build_reader, train_candidates
from lvd_evaluate.dense.training_state import TrainingState
from lvd_evaluate.encoders import load_encoder

SIZE = (168, 224)  # height, width in pixels
BATCH = 4
LIMITS = {"one_pass": 2.0, "late_enlarging": 4.0}  # times the other way's speed


def build_encoder() -> Encoder:
    """Make a ViT-S/14 of random weights through the same door as any other."""
    from transformers import Dinov2Config, Dinov2Model

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=224)).save_pretrained(folder)
        processor = {"crop_size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(processor))
        return load_encoder(folder, image_size=None, seed=0, device=torch.device("cpu"))


def draw_batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random images with random depths, the same each time."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        images = torch.randint(0, 256, (BATCH, 3, *SIZE), generator=generator, dtype=torch.uint8)
        yield images, 1 + 8 * torch.rand(BATCH, *SIZE, generator=generator)


def train(encoder: Encoder, kinds: tuple[str, ...], rates: tuple[float, ...], steps: int) -> list[Candidate]:
    """Train every kind under every rate on the same passes."""
    config = DepthConfig(heads=kinds, learning_rates=rates, steps=steps, batch_size=BATCH)
    reader = build_reader(encoder, config, "clean")
    candidates = build_candidates(reader, config, seed=0)
    train_candidates(candidates, reader, draw_batches(steps), 0, config, "clean", TrainingState(None, {}))
    return candidates


def train_together(encoder: Encoder, config: DepthConfig) -> list[Candidate]:
    """Six heads at once."""
    return train(encoder, config.heads, config.learning_rates, config.steps)


def train_in_turn(encoder: Encoder, config: DepthConfig) -> list[Candidate]:
    """Six runs of one head."""
    pairs = [(kind, rate) for kind in config.heads for rate in config.learning_rates]
    return [train(encoder, (kind,), (rate,), config.steps)[0] for kind, rate in pairs]


def enlarge_late(head: BinsHead, tokens: TokenMaps) -> Tensor:
    """Depth of our head after a backward pass."""
    depth = head(tokens)
    depth.sum().backward()
    return depth.detach()


def enlarge_early(head: BinsHead, tokens: TokenMaps) -> Tensor:
    """Depth of the same weights after a backward pass: concatenate, enlarge, then one convolution."""
    grid = tokens.patches.shape[2:4]
    maps = [
        torch.cat([tokens.patches[:, layer], tokens.cls[:, layer, None, None].expand(-1, *grid, -1)], dim=3)
        for layer in range(4)
    ]
    inputs = F.interpolate(torch.cat(maps, dim=3).permute(0, 3, 1, 2), scale_factor=4, mode="bilinear")
    layers = zip(head.patches.weight.chunk(4, dim=1), head.cls.weight.chunk(4, dim=1), strict=True)
    kernel = torch.cat([torch.cat(pair, dim=1) for pair in layers], dim=1)  # [K, 2 D L]
    logits = F.conv2d(inputs, kernel[:, :, None, None], head.patches.bias)  # [B, K, 4h, 4w]
    depth = expected_depth(logits.permute(0, 2, 3, 1), head.centres)
    depth.sum().backward()
    return depth.detach()


def in_turn(
    ours: Callable[[], Any], theirs: Callable[[], Any], check: Callable[[Any, Any], None], rounds: int
) -> dict[str, float]:
    """Least CPU seconds of each; what they give is checked each time."""
    best = {"ours": float("inf"), "theirs": float("inf")}
    for _ in range(rounds):
        given = []
        for name, function in (("ours", ours), ("theirs", theirs)):
            start = time.process_time()
            given.append(function())
            best[name] = min(best[name], time.process_time() - start)
        check(*given)
    return best | {"ratio": best["theirs"] / best["ours"]}


def check_weights(ours: list[Candidate], theirs: list[Candidate]) -> None:
    """Both trained the same heads."""
    for one, other in zip(ours, theirs, strict=True):
        expected = other.head.state_dict()
        for name, tensor in one.head.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def check_depths(ours: Tensor, theirs: Tensor) -> None:
    """Both say the same metres."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def compare(steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure both economies."""
    encoder, config = build_encoder(), DepthConfig(heads=("lin.1", "lin.4"), steps=steps)
    head = build_head("lin.4", 384, config, seed=0)
    assert isinstance(head, BinsHead)
    generator = torch.Generator().manual_seed(0)
    grid = (SIZE[0] // 14, SIZE[1] // 14)
    tokens = TokenMaps(
        torch.randn(BATCH, 4, 384, generator=generator), torch.randn(BATCH, 4, *grid, 384, generator=generator)
    )
    check_depths(enlarge_late(head, tokens), enlarge_late(head, tokens))  # the first call of all loads libraries
    together, apart = partial(train_together, encoder, config), partial(train_in_turn, encoder, config)
    late, early = partial(enlarge_late, head, tokens), partial(enlarge_early, head, tokens)
    return {
        "one_pass": in_turn(together, apart, check_weights, rounds),
        "late_enlarging": in_turn(late, early, check_depths, rounds),
    }


def main() -> None:
    """Read the words, run, append the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    words = parser.parse_args()
    results = compare(words.steps, words.rounds)
    record(
        "evaluate/dense_heads",
        {"cpu_seconds": results, **vars(words)},
        [
            Target(f"{name}: times the other way's speed", found["ratio"], LIMITS[name])
            for name, found in results.items()
        ],
        ("lvd-evaluate", "torch", "transformers"),
    )


if __name__ == "__main__":
    main()
