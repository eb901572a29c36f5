import dataclasses

import numpy as np
import pytest
import torch

from lvd_evaluate.config import LinearConfig, VideoConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes.video import evaluate_video
from lvd_evaluate.tasks.video import average_frames

LINEAR = LinearConfig(min_steps=60, batch_size=32)


def _clips(count: int, seed: int, how: str, noise: float = 1.0) -> Features:
    """Two classes that differ in the order of their frames alone, or (average) in their mean."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    direction = np.linspace(-1, 1, 4)[:, None] * np.where(labels, 1, -1)[:, None, None]  # [N, F, 1]
    level = np.where(labels, 0.5, -0.5)[:, None, None] if how == "average" else 0
    values = (direction + level) * np.ones(6) + 0.3 * noise * generator.normal(size=(count, 4, 6))  # [N, F, D]
    frames = torch.from_numpy(values).flatten(0, 1)[:, None]  # [N F, 1, D]
    features = Features(frames, frames[:, 0], torch.from_numpy(labels).repeat_interleave(4), 1.0, 1.0)
    return average_frames(features, 4, how)


@pytest.mark.parametrize("protocol", ["clean", "dinov2"])
def test_clips_are_classified_by_their_mean_frame(colour_encoder, protocol):
    train, test = _clips(80, 1, "average"), _clips(40, 2, "average")
    config = VideoConfig(frames=4)
    (outcome,) = evaluate_video(train, test, 2, colour_encoder, config, LINEAR, protocol, 0)
    assert (outcome.predictions == test.labels.numpy()).mean() > 0.9
    assert outcome.procedure == f"video-4-frames-average-linear-26-cached-{protocol}-resize18-crop16"
    assert "clips" in outcome.notes["chosen_on"]


def test_only_concatenated_frames_tell_directions_apart(colour_encoder):
    config = VideoConfig(frames=4, combine="concatenate")
    train, test = _clips(80, 1, "concatenate"), _clips(40, 2, "concatenate")
    (outcome,) = evaluate_video(train, test, 2, colour_encoder, config, LINEAR, "clean", 0)
    assert (outcome.predictions == test.labels.numpy()).mean() > 0.9


def test_the_clean_choice_never_sees_test(colour_encoder):
    train, test = _clips(80, 1, "average", 4), _clips(40, 2, "average", 4)
    emptied = dataclasses.replace(test, labels=torch.full_like(test.labels, -1))
    first, second = (
        evaluate_video(train, part, 2, colour_encoder, VideoConfig(frames=4), LINEAR, "clean", 0)[0]
        for part in (test, emptied)
    )
    assert (first.setting, first.notes) == (second.setting, second.notes)
    assert np.array_equal(first.predictions, second.predictions)


def test_views_of_clips_are_refused(colour_encoder):
    clips = _clips(20, 1, "average")
    with pytest.raises(InputError, match="clips are read from cached frames"):
        evaluate_video(clips, clips, 2, colour_encoder, VideoConfig(), LinearConfig(augment="true"), "clean", 0)


def test_unknown_ways_to_combine_frames_are_named():
    with pytest.raises(InputError, match=r"video\.combine=mean: choose one of average, concatenate"):
        VideoConfig(combine="mean")
