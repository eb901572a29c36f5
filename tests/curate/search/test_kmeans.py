import logging
from pathlib import Path

import faiss
import numpy as np
import pytest

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.errors import InputError
from lvd_curate.search import kmeans
from lvd_curate.search.kmeans import (
    ROWS,
    Assignment,
    Level,
    assign,
    effective_clusters,
    find_best_match,
    fit_hierarchy,
    fit_on_sample,
    fit_spherical_kmeans,
    pick_closest,
)
from lvd_curate.vectors import Vectors


def make_blobs(sizes: list[int], dimensions: int = 16) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(len(sizes), dimensions)) * 4
    labels = np.repeat(np.arange(len(sizes)), sizes)
    vectors = centres[labels] + draw.normal(size=(len(labels), dimensions)) * 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def store(vectors: np.ndarray, folder: Path) -> Vectors:
    np.save(folder / "vectors.npy", vectors.astype("<f2"))
    return Vectors(folder / "vectors.npy", np.arange(len(vectors)))


def make_bench(folder: Path, name: str = "bench", max_bytes: int = 1 << 30) -> Workbench:
    return Workbench(folder / name, InlineExecutor(), max_bytes)


def test_separate_blobs_are_found_again_and_again() -> None:
    vectors, labels = make_blobs([40] * 5)
    centroids = fit_spherical_kmeans(vectors, 10, iterations=20, random_seed=0)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    _, clusters = find_best_match(vectors, centroids)
    assert all(len(np.unique(labels[clusters == number])) == 1 for number in np.unique(clusters))
    again = fit_spherical_kmeans(vectors, 10, iterations=20, random_seed=0)
    np.testing.assert_array_equal(centroids, again)
    assert not np.array_equal(centroids, fit_spherical_kmeans(vectors, 10, iterations=20, random_seed=1))


def test_seeding_finds_rare_blobs_where_random_seeds_do_not() -> None:
    vectors, labels = make_blobs([2000, 2000] + [4] * 30)
    ours = fit_spherical_kmeans(vectors, 64, iterations=20, random_seed=0)
    random = faiss.Kmeans(16, 64, niter=20, seed=0, spherical=True, min_points_per_centroid=1)
    random.train(vectors)
    found = []
    for centroids in (ours, random.centroids):
        _, clusters = find_best_match(vectors, centroids)
        found.append(sum(not np.isin(clusters[labels != n], clusters[labels == n]).any() for n in range(2, 32)))
    assert found[0] > 2 * found[1]


def test_the_fit_does_not_depend_on_the_number_of_threads() -> None:
    vectors, _ = make_blobs([300] * 20)
    before, found = faiss.omp_get_max_threads(), []
    try:
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            found.append(fit_spherical_kmeans(vectors, 100, iterations=5, random_seed=3))
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_more_clusters_than_distinct_images_is_one_each() -> None:
    vectors, _ = make_blobs([1, 1, 1])
    centroids = fit_spherical_kmeans(np.repeat(vectors, 2, axis=0), 100, iterations=5, random_seed=0)
    assert len(centroids) == 3
    assert sorted(find_best_match(vectors, centroids)[1]) == [0, 1, 2]


def test_the_best_match_is_the_lowest_of_equals_however_many_ask() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(700, 40)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    references = np.repeat(vectors[:300], 3, axis=0)
    similarities, nearest = find_best_match(vectors, references)
    cosines = vectors.astype(float) @ references.astype(float).T
    np.testing.assert_allclose(similarities, cosines.max(axis=1), atol=1e-6)
    assert (nearest % 3 == 0).all()
    few, same = find_best_match(vectors[5:9], references)
    np.testing.assert_array_equal(nearest[5:9], same)
    np.testing.assert_array_equal(similarities[5:9], few)


def test_assignment_in_pieces_goes_on_where_it_stopped(tmp_path: Path) -> None:
    vectors, _ = make_blobs([ROWS // 4] * 5, 4)
    rows, bench = store(vectors, tmp_path), make_bench(tmp_path)
    centroids = fit_on_sample(rows, 6, "centroids", iterations=3, random_seed=0, bench=bench)
    whole = assign(rows, centroids, "assigned", bench)
    expected = (rows.load().astype(float) @ centroids.open().astype(float).T).argmax(axis=1)
    np.testing.assert_array_equal(whole.clusters, expected)
    first, second = sorted((bench.folder / "assigned").iterdir())
    second.unlink()
    written = first.stat().st_mtime_ns
    again = assign(rows, centroids, "assigned", bench)
    np.testing.assert_array_equal(whole.similarities, again.similarities)
    assert first.stat().st_mtime_ns == written


def test_many_vectors_are_fitted_on_a_sample_that_no_memory_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = store(make_blobs([1000] * 5)[0], tmp_path)
    much = fit_on_sample(rows, 20, "c", iterations=5, random_seed=0, bench=make_bench(tmp_path, "much"))
    monkeypatch.setattr(kmeans, "POINTS_PER_CENTROID", 50)
    with caplog.at_level(logging.INFO):
        few = fit_on_sample(rows, 20, "c", iterations=5, random_seed=0, bench=make_bench(tmp_path, "few"))
    assert "fitted on 1000 of 5000 vectors" in caplog.text
    quality = [(rows.load() @ fitted.load().T).max(axis=1).mean() for fitted in (few, much)]
    assert quality[0] > 0.98 * quality[1]
    with pytest.raises(InputError, match=r"c: 20 clusters are fitted on 1000 vectors, .*execution\.max_ram_gb"):
        fit_on_sample(rows, 20, "c", iterations=5, random_seed=0, bench=make_bench(tmp_path, "none", 10_000))


def test_the_sample_is_bounded_but_never_too_small_to_fit_on() -> None:
    assert kmeans.count_fitting(20, 64) == 20 * 256
    assert kmeans.count_fitting(1_000_000, 1024) == 40_000_000
    assert kmeans.count_fitting(10_000, 1024) == 2**20


def test_hierarchy_gives_a_parent_to_every_finer_cluster(tmp_path: Path) -> None:
    rows = store(make_blobs([30] * 6)[0], tmp_path)
    levels = [Level(24, 1, 2), Level(6, 3, 2)]
    finest, coarser = fit_hierarchy(rows, levels, iterations=10, random_seed=0, bench=make_bench(tmp_path))
    assert (finest.clusters.shape, coarser.clusters.shape) == ((180,), (24,))
    assert finest.clusters.max() < 24
    assert len(np.unique(coarser.clusters)) == 6
    again = fit_hierarchy(rows, levels, iterations=10, random_seed=0, bench=make_bench(tmp_path, "again"))
    np.testing.assert_array_equal(finest.clusters, again[0].clusters)


def test_resampling_gives_rare_blobs_more_centroids(tmp_path: Path) -> None:
    vectors, labels = make_blobs([3000] + [30] * 10)
    rows, rare = store(vectors, tmp_path), labels > 0
    shares = []
    for steps in (0, 3):
        bench = make_bench(tmp_path, f"steps-{steps}")
        (level,) = fit_hierarchy(rows, [Level(100, steps, 3)], iterations=10, random_seed=0, bench=bench)
        shares.append(len(np.unique(level.clusters[rare])))
    assert shares[1] > 1.1 * shares[0]


def test_the_closest_are_the_most_alike_of_each_cluster() -> None:
    clusters = np.array([1, 0, 1, 0, 1, 0], dtype=np.int32)
    similarities = np.array([0.1, 0.9, 0.5, 0.2, 0.5, 0.8], dtype=np.float32)
    assert pick_closest(Assignment(clusters, similarities), 1).tolist() == [1, 2]
    assert pick_closest(Assignment(clusters, similarities), 2).tolist() == [1, 2, 4, 5]
    assert pick_closest(Assignment(clusters, similarities), 9).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("sizes", "expected"), [([5, 5, 5, 5], 4.0), ([7], 1.0), ([], 0.0), ([90, 5, 5], 1.4832)])
def test_effective_clusters_is_the_exponential_of_entropy(sizes: list[int], expected: float) -> None:
    assert effective_clusters(np.repeat(np.arange(len(sizes)), sizes)) == pytest.approx(expected, abs=1e-3)
