import itertools

import pytest
import torch
import torch.nn.functional as F

from lvd_evaluate.config import DepthConfig
from lvd_evaluate.contracts import Tokens
from lvd_evaluate.dense.depth_training import (
    TokenReader,
    build_candidates,
    build_reader,
    load_candidates,
    rate_factor,
    resize_depth,
    train_candidates,
)
from lvd_evaluate.dense.training_state import TrainingState
from lvd_evaluate.encoders.pixels import PixelEncoder
from lvd_evaluate.errors import InputError

CONFIG = DepthConfig(
    heads=("lin.1", "lin.4"), learning_rates=(1e-3, 1e-2), steps=12, batch_size=3, bins=8, save_every=5
)


class PatchColours:
    """Tokens of layer n are mean colours of 8-pixel patches times n + 1."""

    name = spec = loader = feature = fingerprint = "patch colours"
    image_size, resize_size, patch_size, num_layers, num_parameters = 16, 18, 8, 12, 0
    mean = std = (0.5, 0.5, 0.5)
    device = torch.device("cpu")

    def __init__(self):
        self.calls = []

    def at_size(self, height, width):
        assert height % 8 == 0
        assert width % 8 == 0
        return self

    def encode(self, images, layers, *, normed=True):
        self.calls.append((tuple(images.shape), tuple(layers), normed))
        patches = F.avg_pool2d(images, 8).permute(0, 2, 3, 1)
        return [Tokens(cls=patches.mean((1, 2)) * (n + 1), patches=patches * (n + 1)) for n in layers]


def draw_batches(start, stop, size=(16, 24)):
    for step in range(start, stop):
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (3, 3, *size), generator=generator, dtype=torch.uint8)
        yield images, 0.5 + images[:, 0].float() / 100


def train(config=CONFIG, start=0, stop=None, state=None, candidates=None, protocol="clean"):
    reader = build_reader(PatchColours(), config, protocol)
    candidates = candidates or build_candidates(reader, config, 0)
    batches = draw_batches(start, stop or config.steps)
    train_candidates(candidates, reader, batches, start, config, protocol, state or TrainingState(None, {}))
    return candidates


def weights(candidate):
    return torch.cat([parameter.detach().flatten() for parameter in candidate.head.parameters()])


def test_each_head_learns_as_it_would_alone():
    together = {(found.kind, found.rate): weights(found) for found in train()}
    assert len(together) == 4
    for kind, rate in together:
        alone = train(DepthConfig(**{**vars(CONFIG), "heads": (kind,), "learning_rates": (rate,)}))
        torch.testing.assert_close(weights(alone[0]), together[kind, rate], rtol=1e-4, atol=1e-6)


def test_one_backbone_pass_per_batch_serves_all_heads():
    reader = build_reader(PatchColours(), CONFIG, "clean")
    candidates = build_candidates(reader, CONFIG, 0)
    reader.encoder.calls.clear()
    train_candidates(candidates, reader, draw_batches(0, 12), 0, CONFIG, "clean", TrainingState(None, {}))
    assert reader.encoder.calls == [((3, 3, 16, 24), (2, 5, 8, 11), True)] * 12


@pytest.mark.parametrize("protocol", ["clean", "dinov2"])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, protocol):
    whole = train(protocol=protocol)
    state = TrainingState(tmp_path, {"run": 1})
    batches = itertools.islice(draw_batches(0, 12), 8)
    reader = build_reader(PatchColours(), CONFIG, protocol)
    train_candidates(build_candidates(reader, CONFIG, 0), reader, batches, 0, CONFIG, protocol, state)
    candidates = build_candidates(reader, CONFIG, 0)
    assert load_candidates(TrainingState(tmp_path, {"run": 2}), candidates) == 0
    start = load_candidates(state, candidates)
    assert start == 5
    resumed = train(start=start, state=state, candidates=candidates, protocol=protocol)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(weights(one), weights(other))
    assert load_candidates(state, candidates) == 12


def test_protocols_differ_in_norm_and_in_how_sides_become_multiples():
    images = torch.zeros(1, 3, 18, 27, dtype=torch.uint8)
    for protocol, shape, normed in (("clean", (16, 24), True), ("dinov2", (24, 32), False)):
        reader = build_reader(PatchColours(), CONFIG, protocol)
        reader.read(images)
        assert reader.encoder.calls == [((1, 3, *shape), (2, 5, 8, 11), normed)]


def test_raw_pixels_become_cells_with_their_mean_as_cls():
    reader = TokenReader(PixelEncoder("pixels", 32, torch.device("cpu")), [0, 0], True, "resize", "float32")
    assert reader.cell == 16
    assert reader.width() == 3 * 16 * 16
    assert reader.feature("lin.4").endswith("after the final norm, of blocks 1")
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    tokens = reader.read(images)
    assert tokens.patches.shape == (2, 2, 2, 3, 768)
    assert tokens.cls.shape == (2, 2, 768)
    first = images[0, :, :16, :16].flatten().sort().values / 255
    torch.testing.assert_close(tokens.patches[0, 0, 0, 0].sort().values, first)


def test_encoders_without_patches_are_refused():
    encoder = PatchColours()
    encoder.patch_size = None
    with pytest.raises(InputError, match="patch tokens"):
        build_candidates(build_reader(encoder, CONFIG, "clean"), CONFIG, 0)


def test_the_rate_rises_and_falls_as_worked_out_by_hand():
    config = DepthConfig(steps=90)
    assert rate_factor(0, config) == pytest.approx(1e-3)
    assert rate_factor(15, config) == pytest.approx(0.5005 * 0.9330127)
    assert rate_factor(45, config) == pytest.approx(0.5)
    assert rate_factor(90, config) == pytest.approx(0)
    assert rate_factor(0, DepthConfig(steps=90, warmup=0)) == 1


def test_predictions_are_resized_without_aligned_corners():
    depth = resize_depth(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    assert depth.tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
