import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from lvd_evaluate.classifiers import neighbours
from lvd_evaluate.classifiers.few_shot import draw_shots
from lvd_evaluate.classifiers.neighbours import nearest, unit, vote
from lvd_evaluate.config import FewShotConfig, KnnConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes.knn import evaluate_few_shot_knn, evaluate_knn

CPU = torch.device("cpu")


def _features(values: np.ndarray, labels: np.ndarray) -> Features:
    """Four layers of which only the last one carries the values."""
    noise = np.random.default_rng(9).normal(size=(len(values), 3, values.shape[1]))
    cls = np.concatenate([noise, values[:, None]], axis=1)
    return Features(torch.from_numpy(cls).half(), None, torch.from_numpy(labels), 1.0, 1.0)


def _oracle(train: Features, test: Features, k: int, temperature: float) -> np.ndarray:
    classifier = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    classifier.fit(train.cls[:, -1].float().numpy(), train.labels.numpy())
    return classifier.predict(test.cls[:, -1].float().numpy())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 20]), st.sampled_from([0.07, 0.5]))
def test_predictions_equal_scikit_learn_on_random_features(seed, k, temperature):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(6, 12))
    labels = [generator.integers(0, 6, count) for count in (80, 40)]
    train, test = (_features(centres[part] + generator.normal(size=(len(part), 12)), part) for part in labels)
    similarity, index = nearest(*(neighbours.unit(part.cls[:, -1]) for part in (test, train)), k, CPU)
    (predictions,) = vote(similarity, train.labels[index], [k], 6, temperature)
    assert np.array_equal(predictions.numpy(), _oracle(train, test, k, temperature))


def test_predictions_equal_scikit_learn_on_features_of_images(corpus, run_folder, tmp_path):
    from lvd_evaluate.config import DataConfig, FeaturesConfig
    from lvd_evaluate.encoders import load_encoder
    from lvd_evaluate.features import extract_features
    from lvd_evaluate.tasks.classification import load_task

    task = load_task([str(corpus)], DataConfig())
    encoder = load_encoder(str(run_folder), image_size=None, seed=0, device=CPU)
    train, test = (extract_features(encoder, part, tmp_path, FeaturesConfig()) for part in (task.train, task.test))
    outcomes = evaluate_knn(train, test, 3, encoder, KnnConfig(neighbours=(1, 5, 20)))
    assert [outcome.setting["k"] for outcome in outcomes] == [1, 5, 20]
    for outcome in outcomes:
        assert np.array_equal(outcome.predictions, _oracle(train, test, outcome.setting["k"], 0.07))


def test_chunks_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (neighbours.unit(torch.randn(count, 16, generator=generator)) for count in (50, 300))
    whole = nearest(queries, gallery, 20, CPU)
    monkeypatch.setattr(neighbours, "QUERY_CHUNK", 7)
    monkeypatch.setattr(neighbours, "TRAIN_CHUNK", 11)  # smaller than k
    pieces = nearest(queries, gallery, 20, CPU)
    exact = queries.double() @ gallery.double().T
    assert torch.allclose(whole[0], pieces[0], atol=1e-6)
    for similarity, index in (whole, pieces):
        assert torch.allclose(exact.gather(1, index).float(), similarity, atol=1e-6)
        assert torch.allclose(similarity.double(), exact.topk(20).values, atol=1e-6)


def test_a_near_neighbour_outweighs_two_far_ones():
    similarity = torch.tensor([[0.9, 0.5, 0.5]])
    labels = torch.tensor([[0, 1, 1]])
    assert vote(similarity, labels, [3], 2, 0.07)[0].tolist() == [0]
    assert vote(similarity, labels, [3], 2, 10.0)[0].tolist() == [1]  # a high temperature counts heads
    assert vote(similarity, labels, [1], 2, 10.0)[0].tolist() == [0]


def test_similarities_that_half_precision_cannot_tell_apart_are_told_apart():
    angles = torch.linspace(0.02, 0.021, 40)
    gallery = unit(torch.stack([angles.cos(), angles.sin()], dim=1))
    _, rows = nearest(unit(torch.tensor([[1.0, 0.0]])), gallery, 40, torch.device("cpu"))
    assert rows[0].tolist() == list(range(40))


def test_k_beyond_the_train_images_is_dropped_and_the_headline_falls_back(colour_encoder, caplog):
    values, labels = np.random.default_rng(0).normal(size=(15, 4)), np.arange(15) % 3
    outcomes = evaluate_knn(_features(values, labels), _features(values, labels), 3, colour_encoder, KnnConfig())
    assert [(outcome.setting["k"], outcome.headline) for outcome in outcomes] == [(10, True)]
    assert "knn.headline=20 is not among the usable k (10): tables show k=10" in caplog.text
    with pytest.raises(InputError, match="there are 9 train images"):
        evaluate_knn(_features(values[:9], labels[:9]), _features(values, labels), 3, colour_encoder, KnnConfig())


def test_twenty_neighbours_are_the_headline(colour_encoder, caplog):
    values, labels = np.random.default_rng(0).normal(size=(120, 4)), np.arange(120) % 3
    outcomes = evaluate_knn(_features(values, labels), _features(values, labels), 3, colour_encoder, KnnConfig())
    assert [outcome.setting["k"] for outcome in outcomes if outcome.headline] == [20]
    assert "knn.headline" not in caplog.text
    assert outcomes[1].procedure == "knn-cosine-k20-t0.07-resize18-crop16"


def test_left_out_images_are_classified_by_all_others(colour_encoder):
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 4, 60)
    images = _features(generator.normal(size=(4, 6))[labels] + generator.normal(size=(60, 6)), labels)
    images.cls[7], images.cls[30] = images.cls[8], images.cls[8]  # copies are others, too
    config = KnnConfig(neighbours=(1, 5, 59, 60), headline=5, leave_one_out=True)
    outcomes = evaluate_knn(images, images, 4, colour_encoder, config)
    assert [outcome.setting["k"] for outcome in outcomes] == [1, 5, 59]
    assert outcomes[0].procedure == "knn-cosine-k1-t0.07-loo-resize18-crop16"
    for outcome in outcomes[1:]:
        for row in range(60):
            others = np.delete(np.arange(60), row)
            kept = Features(images.cls[others], None, images.labels[others], 1.0, 1.0)
            alone = Features(images.cls[row : row + 1], None, images.labels[row : row + 1], 1.0, 1.0)
            assert outcome.predictions[row] == _oracle(kept, alone, outcome.setting["k"], 0.07)[0]
    seen = evaluate_knn(images, images, 4, colour_encoder, KnnConfig(neighbours=(1,), headline=1))
    assert (seen[0].predictions == labels).mean() > (outcomes[0].predictions == labels).mean()


def test_one_is_left_out_of_one_set_only(colour_encoder):
    images = _features(np.random.default_rng(0).normal(size=(10, 4)), np.arange(10) % 3)
    others = _features(np.random.default_rng(1).normal(size=(10, 4)), np.arange(10) % 3)
    with pytest.raises(InputError, match="takes one set of images"):
        evaluate_knn(images, others, 3, colour_encoder, KnnConfig(leave_one_out=True))
    with pytest.raises(InputError, match="there are 9 train images beside each"):
        evaluate_knn(images, images, 3, colour_encoder, KnnConfig(neighbours=(10,), leave_one_out=True))


def test_no_row_is_its_own_neighbour_whatever_the_chunks(monkeypatch):
    rows = neighbours.unit(torch.randn(70, 8, generator=torch.Generator().manual_seed(0)))
    exact = (rows.double() @ rows.double().T).fill_diagonal_(-2)
    for query_chunk, train_chunk, tile, few in ((1024, 65536, 2048, 1), (7, 33, 16, 100), (64, 16, 16, 1)):
        monkeypatch.setattr(neighbours, "QUERY_CHUNK", query_chunk)
        monkeypatch.setattr(neighbours, "TRAIN_CHUNK", train_chunk)
        monkeypatch.setattr(neighbours, "TILE", tile)
        monkeypatch.setattr(neighbours, "BLOCKS", (16, 8))
        monkeypatch.setattr(neighbours, "FEW", few)
        similarity, index = nearest(rows, rows, 69, CPU, skip_self=True)
        assert torch.allclose(similarity.double(), exact.topk(69).values, atol=1e-6)
        assert not (index == torch.arange(70)[:, None]).any()
        assert torch.equal(index.sort(dim=1).values[:, :1], (torch.arange(70) == 0).long()[:, None])


def test_few_shots_are_means_over_tries_of_plain_votes(colour_encoder):
    generator = np.random.default_rng(0)
    labels = [generator.integers(0, 4, count) for count in (200, 50)]
    centres = generator.normal(size=(4, 6))
    train, test = (_features(centres[part] + 0.7 * generator.normal(size=(len(part), 6)), part) for part in labels)
    shots = FewShotConfig(per_class=(12, 1), tries=3)
    outcomes = evaluate_few_shot_knn(train, test, 4, colour_encoder, KnnConfig(neighbours=(5, 10, 20)), shots, 0)
    told = [(outcome.setting["per_class"], outcome.setting["k"], outcome.headline) for outcome in outcomes]
    assert told == [(1, 1, True), (12, 5, False), (12, 10, False), (12, 12, True)]
    for outcome in outcomes:
        right = []
        for attempt in range(3):
            rows = draw_shots(train.labels.numpy(), outcome.setting["per_class"], 0, attempt)
            drawn = Features(train.cls[rows], None, train.labels[rows], 1.0, 1.0)
            right.append(_oracle(drawn, test, outcome.setting["k"], 0.07) == labels[1])
        assert np.allclose(outcome.measurements[0].numerators[:, 0], np.mean(right, axis=0))
        assert outcome.notes["top1_of_tries"] == pytest.approx([part.mean() for part in right])


def test_few_shots_need_no_more_neighbours_than_there_are(colour_encoder):
    images = _features(np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 0, 0, 1, 1, 1]))
    shots = FewShotConfig(per_class=(50,), tries=1)
    outcomes = evaluate_few_shot_knn(images, images, 2, colour_encoder, KnnConfig(), shots, 0)
    assert [(outcome.setting["k"], outcome.headline) for outcome in outcomes] == [(6, True)]
