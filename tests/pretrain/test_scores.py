import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_pretrain import scores as module
from lvd_pretrain.scores import Assignment, Scores, logsumexp_of_columns, logsumexp_of_rows, tiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, "TILE_ROWS", 4)
    monkeypatch.setattr(module, "TILE_COLUMNS", 5)


def draw(rows: int, columns: int) -> Scores:
    return Scores(torch.randn(rows, 3), torch.randn(columns, 3))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 13), columns=st.integers(1, 13), views=st.integers(1, 6))
def test_tiles_cover_every_entry_once_and_are_small(rows, columns, views):
    covered = torch.zeros(rows, columns, dtype=torch.int)
    for part in tiles(rows, columns, views):
        covered[part] += 1
        assert covered[part].numel() * views <= max(4, views) * 5
    assert (covered == 1).all()


def test_logsumexps_equal_the_dense_ones():
    torch.manual_seed(0)
    scores = draw(11, 13)
    over_columns, over_rows = torch.randn(13), torch.randn(11)
    dense = scores.features @ scores.weight.T
    assert torch.allclose(logsumexp_of_rows(scores, over_columns), (dense + over_columns).logsumexp(1), atol=1e-5)
    assert torch.allclose(logsumexp_of_rows(scores), dense.logsumexp(1), atol=1e-5)
    assert torch.allclose(logsumexp_of_columns(scores, over_rows), (dense.T + over_rows).logsumexp(1), atol=1e-5)
    assert logsumexp_of_columns(draw(0, 13), torch.empty(0)).tolist() == [-torch.inf] * 13


def test_an_assignment_is_its_potentials_and_tiles_are_parts_of_it():
    torch.manual_seed(0)
    targets = Assignment(draw(6, 7), torch.randn(7), torch.randn(6))
    dense = torch.exp(targets.scores.dense() + targets.columns + targets.rows[:, None])
    assert torch.allclose(targets.dense(), dense)
    views = targets.unflatten(0, (2, 3))
    assert torch.allclose(views.tile(slice(1, 3), slice(2, 5)), dense.unflatten(0, (2, 3))[:, 1:3, 2:5])


def test_logits_are_float32_under_autocast():
    scores = draw(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        cast = scores.dense()
    assert cast.dtype == torch.float32
    assert torch.equal(cast, scores.features @ scores.weight.T)


def test_winners_and_entropies_are_the_dense_ones():
    torch.manual_seed(0)
    scores = draw(6, 13)
    targets = Assignment(scores, torch.zeros(13), -logsumexp_of_rows(scores)).unflatten(0, (2, 3))
    dense = targets.dense()
    assert torch.allclose(dense.sum(-1), torch.ones(2, 3))
    winners, entropies = targets.winners_and_entropies()
    assert torch.equal(winners, dense.argmax(-1))
    assert torch.allclose(entropies, torch.special.entr(dense).sum(-1), atol=1e-5)


def test_under_bf16_products_on_a_cpu_stay_within_the_features_own_rounding_and_nothing_else_is_rounded():
    torch.manual_seed(0)
    features, weight = (F.normalize(torch.randn(count, 64), dim=-1) for count in (256, 512))
    scores = Scores(features.bfloat16().float(), weight)
    exact = features @ weight.T
    before = torch.get_float32_matmul_precision()
    with torch.autocast("cpu", torch.bfloat16):
        products = scores.tile(slice(None), slice(None))
        whole = scores.dense()
    assert torch.equal(whole, scores.dense())
    assert products.dtype == torch.float32
    assert (products - exact).abs().mean() < 2 * (scores.dense() - exact).abs().mean()
    assert torch.get_float32_matmul_precision() == before
