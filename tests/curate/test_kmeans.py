import numpy as np
import pytest

from lvd_curate.kmeans import assign, effective_clusters, fit_hierarchy, fit_spherical_kmeans


def make_blobs(sizes: list[int], dimensions: int = 16) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(len(sizes), dimensions)) * 4
    labels = np.repeat(np.arange(len(sizes)), sizes)
    vectors = centres[labels] + draw.normal(size=(len(labels), dimensions)) * 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def test_separate_blobs_are_found_again_and_again() -> None:
    vectors, labels = make_blobs([40] * 5)
    centroids = fit_spherical_kmeans(vectors, 10, iterations=20, random_seed=0)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    clusters = assign(vectors, centroids)
    assert all(len(np.unique(labels[clusters == number])) == 1 for number in np.unique(clusters))
    again = fit_spherical_kmeans(vectors, 10, iterations=20, random_seed=0)
    np.testing.assert_array_equal(centroids, again)
    assert not np.array_equal(centroids, fit_spherical_kmeans(vectors, 10, iterations=20, random_seed=1))


def test_more_clusters_than_images_is_one_each() -> None:
    vectors, _ = make_blobs([1, 1, 1])
    assert sorted(assign(vectors, fit_spherical_kmeans(vectors, 100, iterations=5, random_seed=0))) == [0, 1, 2]


def test_hierarchy_gives_a_parent_to_every_finer_cluster() -> None:
    vectors, _ = make_blobs([30] * 6)
    finest, coarser = fit_hierarchy(vectors, [24, 6], iterations=10, random_seed=0)
    assert (finest.shape, coarser.shape) == ((180,), (24,))
    assert finest.max() < 24
    assert coarser.max() < 6


@pytest.mark.parametrize(("sizes", "expected"), [([5, 5, 5, 5], 4.0), ([7], 1.0), ([], 0.0), ([90, 5, 5], 1.4832)])
def test_effective_clusters_is_the_exponential_of_entropy(sizes: list[int], expected: float) -> None:
    assert effective_clusters(np.repeat(np.arange(len(sizes)), sizes)) == pytest.approx(expected, abs=1e-3)
