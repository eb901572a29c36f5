"""Video probe: the linear grid on the frames of a clip, averaged or concatenated (DINOv2, arXiv 2304.07193, 7.2)."""

from __future__ import annotations

from lvd_evaluate.classifiers.linear_grid import CachedTraining, fit_head, num_heads, to_device
from lvd_evaluate.config import LinearConfig, VideoConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome
from lvd_evaluate.errors import InputError


def evaluate_video(
    train: Features,
    test: Features,
    num_classes: int,
    encoder: Encoder,
    config: VideoConfig,
    linear: LinearConfig,
    protocol: str,
    seed: int,
) -> list[Outcome]:
    """One outcome: the chosen head's predictions on the test clips.

    Args:
        train: features of clips, see video_tasks.average_frames.
        test: the same of test.
        num_classes: of the task.
        encoder: that saw the frames.
        config: how clips were made of frames.
        linear: the grid.
        protocol: clean or dinov2, as of the linear probe.
        seed: of head weights, batch order and held-out slice.

    Raises:
        InputError: too few train clips to hold one out, every head has diverged, or augmented views are asked for.
    """
    if linear.augment.lower() == "true":
        raise InputError("linear.augment=true: clips are read from cached frames; leave it at auto")
    train, test = to_device(train, encoder.device), to_device(test, encoder.device)
    training = CachedTraining(train, num_classes, linear, seed)
    head = fit_head(training, train, test, linear, protocol, seed)
    size = f"resize{encoder.resize_size}-crop{encoder.image_size}"
    return [
        Outcome(
            setting={
                "learning_rate": linear.learning_rates[head.rate],
                "layers": head.feature_set.layers,
                "avgpool": head.feature_set.avgpool,
                "frames": config.frames,
                "combine": config.combine,
            },
            predictions=head.logits(test).argmax(dim=1).numpy(),
            headline=True,
            procedure=f"video-{config.frames}-frames-{config.combine}-{training.name(protocol)}-{size}",
            feature=f"{encoder.feature}; {head.feature_set}; {config.frames} frames, {config.combine}d",
            notes={
                "heads": num_heads(train, linear),
                "chosen_on": head.chosen_on.replace("image", "clip"),
                "accuracy_there": head.accuracy,
                "steps": training.steps,
                "batch_size": training.batch_size,
                "trained_on": training.inputs,
            },
        )
    ]
