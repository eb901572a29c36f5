import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lvd_evaluate.contracts import VOID
from lvd_evaluate.dense import segmentation_heads
from lvd_evaluate.dense.segmentation_heads import SegmentationHeads, set_rates, train_step

RATES, DECAYS = [1e-2, 1e-3, 1e-3], [1e-4, 1e-4, 0.5]


def batches(count=20):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        tokens = torch.randn(3, 4, 5, 6, generator=generator) * 2 + 1
        targets = torch.randint(-1, 4, (3, 16, 20), generator=generator)
        assert (targets == VOID).any()
        yield tokens, targets


def train(void_counts=False):
    heads = SegmentationHeads(3, 6, 4, 0.01, seed=5).train()
    optimizer = torch.optim.AdamW(heads.groups(RATES, DECAYS))
    for step, (tokens, targets) in enumerate(batches()):
        set_rates(optimizer, step, 20, 5)
        train_step(heads, optimizer, tokens, targets, void_counts=void_counts)
    return heads.eval()


@pytest.mark.parametrize("void_counts", [False, True])
def test_heads_trained_together_equal_modules_trained_apart(void_counts):
    heads = train(void_counts)
    drawn = SegmentationHeads(1, 6, 4, 0.01, seed=5).weights[0].detach()
    for number, (rate, decay) in enumerate(zip(RATES, DECAYS, strict=True)):
        apart = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1))
        with torch.no_grad():
            apart[1].weight.copy_(drawn[:, :, None, None])
            apart[1].bias.zero_()
        optimizer = torch.optim.AdamW(apart.parameters(), lr=rate, weight_decay=decay)
        for step, (tokens, targets) in enumerate(batches()):
            warm = 1 - (1 - step / 5) * (1 - 1e-6) if step < 5 else 1.0
            optimizer.param_groups[0]["lr"] = rate * warm * (1 - step / 20)
            scores = F.interpolate(apart(tokens.permute(0, 3, 1, 2)), (16, 20), mode="bilinear")
            loss = F.cross_entropy(scores, targets, ignore_index=VOID, reduction="sum")
            optimizer.zero_grad()
            (loss / (targets.numel() if void_counts else (targets != VOID).sum())).backward()
            optimizer.step()
        tokens = next(iter(batches(1)))[0]
        expected = apart.eval()(tokens.permute(0, 3, 1, 2))
        torch.testing.assert_close(heads(tokens)[:, number], expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(heads(tokens, [number])[:, 0], expected, atol=2e-5, rtol=1e-4)


def test_memory_bound_changes_no_number(monkeypatch):
    whole = train()
    monkeypatch.setattr(segmentation_heads, "MAX_VALUES", 1)
    for one, other in zip(whole.parameters(), train().parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_void_pixels_teach_nothing():
    heads = SegmentationHeads(1, 6, 4, 0.01, seed=0).train()
    before = [parameter.clone() for parameter in heads.parameters()]
    optimizer = torch.optim.AdamW(heads.groups([0.1], [0.0]))
    train_step(heads, optimizer, torch.randn(1, 2, 2, 6), torch.full((1, 8, 8), VOID), void_counts=False)
    assert all(torch.equal(a, b) for a, b in zip(before, heads.parameters(), strict=True))


def test_a_head_that_diverges_leaves_the_others_alone():
    def run(rates):
        heads = SegmentationHeads(2, 6, 4, 0.01, seed=5).train()
        optimizer = torch.optim.AdamW(heads.groups(rates, [0.0, 0.0]))
        for tokens, targets in batches(10):
            train_step(heads, optimizer, tokens, targets, void_counts=False)
        return heads.eval()(next(iter(batches(1)))[0])

    wild, tame = run([float("inf"), 1e-3]), run([1e-3, 1e-3])
    assert not wild[:, 0].isfinite().all()
    torch.testing.assert_close(wild[:, 1], tame[:, 1])


def test_rates_rise_from_a_millionth_and_fall_to_nothing():
    heads = SegmentationHeads(1, 2, 2, 0.01, seed=0)
    optimizer = torch.optim.AdamW(heads.groups([1e-3], [0.0]))
    seen = []
    for step in (0, 750, 1500, 20_000, 39_999):
        set_rates(optimizer, step, 40_000, 1500)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1e-9, 1e-3 * 0.98125 * 0.5000005, 1e-3 * 0.9625, 5e-4, 2.5e-8])
