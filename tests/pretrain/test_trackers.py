import json
from pathlib import Path

import pytest
from accelerate import tracking

from lvd_pretrain.errors import InputError
from lvd_pretrain.trackers import flat_settings, tracker_names
from lvd_pretrain.train import pretrain


class Notebook(tracking.GeneralTracker):
    """A tracker that keeps what it is told."""

    name = "notebook"
    requires_logging_directory = False
    main_process_only = True
    heard: list = []  # noqa: RUF012

    def __init__(self, run_name, **kwargs):
        super().__init__()
        self.heard.append(run_name)

    @property
    def tracker(self):
        return self.heard

    def store_init_configuration(self, values):
        self.heard.append(values)

    def log(self, values, step=None, **kwargs):
        self.heard.append((step, values))


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    Notebook.heard.clear()
    return Notebook.heard


def test_a_tracker_hears_the_settings_and_every_logged_line(tiny, notebook):
    run = pretrain(tiny("optim.steps=2", "trackers=[notebook]"))
    name, settings, *lines = notebook
    assert name == "pretrain"
    assert settings["optim.steps"] == 2
    written = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    assert [{"step": step, **values} for step, values in lines] == written


def test_tensorboard_is_the_default_only_where_installed(monkeypatch):
    monkeypatch.setattr("lvd_pretrain.trackers.get_available_trackers", list)
    assert tracker_names(None) == []
    monkeypatch.setattr("lvd_pretrain.trackers.get_available_trackers", lambda: ["tensorboard", "wandb"])
    assert tracker_names(None) == ["tensorboard"]
    assert tracker_names([]) == []
    assert tracker_names(["wandb", "wandb"]) == ["wandb"]


def test_unknown_and_missing_trackers_are_named(monkeypatch):
    monkeypatch.setattr("lvd_pretrain.trackers.get_available_trackers", list)
    with pytest.raises(InputError, match="nearest is wandb"):
        tracker_names(["wandbb"])
    with pytest.raises(InputError, match="wandb: not installed"):
        tracker_names(["wandb"])


def test_settings_become_plain_dotted_values():
    assert flat_settings({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": 1, "a.c": "[1, 2]", "d": "None"}
