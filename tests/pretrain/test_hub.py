import socket

import pytest

from lvd_pretrain import hub
from lvd_pretrain.config import DataConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.pretrained import open_pretrained


@pytest.fixture
def questions(monkeypatch):
    """No network and an empty cache; what was asked of the network."""
    from huggingface_hub import constants

    asked = []

    def refuse(address, *rest, **options):
        asked.append(address)
        raise OSError("no route")

    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.prefer_cache_if_unreachable.cache_clear()
    yield asked
    hub.prefer_cache_if_unreachable.cache_clear()


@pytest.mark.parametrize("source", ["nobody/nothing", "timm:vit_small_patch14_dinov2"])
def test_weights_of_a_silent_hub_are_one_clear_line_after_one_question(
    source, questions, monkeypatch, tmp_path, capsys
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="could not be fetched"):
        open_pretrained(source)
    assert len(questions) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_stream_of_a_silent_hub_is_one_clear_line(questions, monkeypatch, tmp_path):
    import datasets

    from lvd_pretrain.streaming import open_stream

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="cannot be streamed"):
        open_stream(DataConfig(path="nobody/nothing", streaming=True))
    assert len(questions) == 1


def test_behind_a_proxy_nothing_is_assumed(questions, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    hub.prefer_cache_if_unreachable()
    assert not questions
    assert not constants.HF_HUB_OFFLINE


def test_a_mirror_without_tls_is_asked_where_it_listens(questions, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.invalid")
    hub.prefer_cache_if_unreachable()
    assert questions == [("mirror.invalid", 80)]
