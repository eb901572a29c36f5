import pytest
import yaml

from lvd_pretrain.errors import InputError
from lvd_pretrain.run_folder import claim_run_folder


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
