import torch

from lvd_evaluate.dense.training_state import TrainingState


def test_state_is_found_again_by_what_it_depends_on(tmp_path):
    state = TrainingState(tmp_path / "run", {"seed": 0, "rates": (0.1, 0.2)})
    assert state.load() is None
    state.save({"step": 3, "weights": {"a": torch.arange(3.0)}})
    found = TrainingState(tmp_path / "run", {"rates": (0.1, 0.2), "seed": 0}).load()
    assert found is not None
    assert found["step"] == 3
    assert found["weights"]["a"].tolist() == [0, 1, 2]
    assert TrainingState(tmp_path / "run", {"seed": 1, "rates": (0.1, 0.2)}).load() is None
    state.remove()
    assert state.load() is None
    state.remove()  # gone is gone


def test_without_a_folder_nothing_is_kept():
    state = TrainingState(None, {})
    state.save({"step": 1})
    assert state.load() is None
    state.remove()
