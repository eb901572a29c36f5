import errno
import fcntl
import subprocess
import sys

import pytest
import yaml

from lvd_pretrain.errors import InputError
from lvd_pretrain.run_folder import claim_run_folder, lock_run_folder


def test_config_is_written_and_the_same_run_may_go_on(tiny, tmp_path):
    claim_run_folder(tmp_path / "run", tiny("seed=3"), started=False)
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["seed"] == 3
    claim_run_folder(tmp_path / "run", tiny("seed=3", "log_every=5", "data.workers=3"), started=True)
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["log_every"] == 5


def test_another_configuration_is_refused_by_its_first_difference(tiny, tmp_path):
    claim_run_folder(tmp_path / "run", tiny("optim.base_lr=2"), started=False)
    claim_run_folder(tmp_path / "run", tiny(), started=False)  # no step was taken: settings may still be mended
    with pytest.raises(InputError, match=r"optim\.base_lr=.*another out="):
        claim_run_folder(tmp_path / "run", tiny("optim.base_lr=1"), started=True)


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_gone(tmp_path):
    program = "import sys, time; from pathlib import Path; from lvd_pretrain.run_folder import lock_run_folder as lock;"
    program += "held = lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    first = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another run is training here"):
            lock_run_folder(tmp_path / "run")
    finally:
        first.kill()
        first.communicate()
    lock_run_folder(tmp_path / "run").close()


def test_a_disk_without_locks_is_said_and_no_error(monkeypatch, tmp_path, caplog):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    lock_run_folder(tmp_path / "run").close()
    assert "start no second run here" in caplog.text
