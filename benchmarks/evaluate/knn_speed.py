"""k-NN on cached features beside scikit-learn's brute force and faiss' flat index, on the same features.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluate.knn_speed [--train 50000] [--test 2048] [--width 384]

Clustered unit features stored as float16. Ours, faiss, ours, faiss for k = 20 and k = 200, the least CPU time of each;
scikit-learn once, with the same exponential weights. The nearest similarities must be equal to 1e-5 and the predicted
classes in 99.9 % of images (ties in the last place). Limits: half of scikit-learn's time, no more than faiss'.
Appends one JSON line. One thread: with several, the processor time of waiting threads would count.
"""

import argparse
import time

import faiss
import numpy as np
import torch
from benchmarks.turns import Target, record
from sklearn.neighbors import KNeighborsClassifier

from lvd_evaluate.classifiers.neighbours import nearest, unit, vote

CLASSES, TEMPERATURE, NEIGHBOURS = 100, 0.07, (20, 200)


def main() -> None:
    """Measure, compare, print and record."""
    parser = argparse.ArgumentParser()
    for name, default in (("train", 50_000), ("test", 2048), ("width", 384)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, given.width))
    labels = [generator.integers(0, CLASSES, count) for count in (given.train, given.test)]
    train, test = (
        unit(torch.from_numpy(centres[part] + 3 * generator.normal(size=(len(part), given.width))).half())
        for part in labels
    )
    index = faiss.IndexFlatIP(given.width)
    index.add(train.numpy())
    taught, runs = torch.from_numpy(labels[0]), []
    for k in NEIGHBOURS:
        spent: dict[str, list[float]] = {"ours": [], "faiss": []}
        for _ in range(3):
            start = time.process_time()
            similarity, rows = nearest(test, train, k, torch.device("cpu"))
            (predictions,) = vote(similarity, taught[rows], [k], CLASSES, TEMPERATURE)
            spent["ours"].append(time.process_time() - start)
            start = time.process_time()
            found, _ = index.search(test.numpy(), k)
            spent["faiss"].append(time.process_time() - start)
        assert np.abs(found - similarity.numpy()).max() < 1e-5, "other neighbours than faiss"
        peer = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", n_jobs=1, weights=lambda gap: np.exp((1 - gap) / TEMPERATURE)
        ).fit(train.numpy(), labels[0])
        start = time.process_time()
        same = float((peer.predict(test.numpy()) == predictions.numpy()).mean())
        theirs = time.process_time() - start
        assert same >= 0.999, f"{same:.4f} of the predictions equal scikit-learn's"
        ours, flat = min(spent["ours"]), min(spent["faiss"])
        runs.append({"k": k, "ours_cpu_s": ours, "faiss_cpu_s": flat, "sklearn_cpu_s": theirs, "same": same})
        print(
            f"k={k}: ours {ours:.2f} CPU s, scikit-learn {theirs:.2f} ({theirs / ours:.1f} times ours; limit 2), "
            f"faiss flat {flat:.2f} ({flat / ours:.2f} times ours; limit 1); same predictions {same:.4f}",
            flush=True,
        )
    limits = {"sklearn_cpu_s": ("scikit-learn's brute force", 2), "faiss_cpu_s": ("faiss' flat index", 1)}
    record(
        "evaluate/knn_speed",
        {**vars(given), "runs": runs, "faiss": faiss.__version__},
        [
            Target(f"k={run['k']}: times the speed of {peer}", run[key] / run["ours_cpu_s"], limit)
            for run in runs
            for key, (peer, limit) in limits.items()
        ],
        ("lvd-evaluate", "torch", "scikit-learn", "numpy"),
    )


if __name__ == "__main__":
    main()
