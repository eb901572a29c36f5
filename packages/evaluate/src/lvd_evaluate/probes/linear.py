"""Linear probe: a grid of heads over learning rate, depth and pooling (DINOv2, arXiv 2304.07193, B.3).

Protocol `clean` trains on the cached features of one clean pass, chooses the head on a held-out slice of train, refits
it on all of train and reads test once. Protocol `dinov2` is the paper's: heads see augmented crops and the best one is
chosen on test. `linear.augment` mixes the two.
"""

from __future__ import annotations

from pathlib import Path

from lvd_evaluate.classifiers.linear_grid import fit_head, num_heads, to_device
from lvd_evaluate.classifiers.linear_stream import find_training
from lvd_evaluate.config import FeaturesConfig, LinearConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome, Split


def evaluate_linear(
    train: Features,
    test: Features,
    num_classes: int,
    encoder: Encoder,
    config: LinearConfig,
    protocol: str,
    seed: int,
    *,
    train_split: Split | None = None,
    folder: Path | None = None,
    passes: FeaturesConfig | None = None,
) -> list[Outcome]:
    """One outcome: the chosen head's predictions on test.

    Args:
        train: features of one clean pass, in the order of `train_split`.
        test: the same of test.
        num_classes: of the task.
        encoder: that gave them.
        config: the grid.
        protocol: clean or dinov2.
        seed: of head weights, batch order, held-out slice and views.
        train_split: the images themselves, needed where heads see augmented views.
        folder: where an unfinished training on views keeps its state; None keeps none.
        passes: batch size, threads and precision of the encoder's passes over views.

    Raises:
        InputError: too few train images to hold one out, every head has diverged, or an image cannot be decoded.
        ValueError: augmented views are wanted and `train_split` is missing.
    """
    train, test = to_device(train, encoder.device), to_device(test, encoder.device)
    training = find_training(train, num_classes, encoder, config, protocol, seed, train_split, folder, passes)
    head = fit_head(training, train, test, config, protocol, seed)
    training.forget()
    return [
        Outcome(
            setting={
                "learning_rate": config.learning_rates[head.rate],
                "layers": head.feature_set.layers,
                "avgpool": head.feature_set.avgpool,
            },
            predictions=head.logits(test).argmax(dim=1).numpy(),
            headline=True,
            procedure=f"{training.name(protocol)}-resize{encoder.resize_size}-crop{encoder.image_size}",
            feature=f"{encoder.feature}; {head.feature_set}",
            notes={
                "heads": num_heads(train, config),
                "chosen_on": head.chosen_on,
                "accuracy_there": head.accuracy,
                "steps": training.steps,
                "batch_size": training.batch_size,
                "trained_on": training.inputs,
            },
        )
    ]
