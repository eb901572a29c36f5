import socket

import pytest
import requests
from huggingface_hub import errors as hub_errors

from lvd_evaluate import hub


@pytest.fixture
def _fresh(monkeypatch):
    from huggingface_hub import constants

    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.prefer_cache_if_unreachable.cache_clear()
    yield
    hub.prefer_cache_if_unreachable.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_a_silent_hub_switches_to_the_cache_after_one_question(monkeypatch):
    from huggingface_hub import constants

    asked = []

    def refuse(*address, **options):
        asked.append(address)
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", refuse)
    hub.prefer_cache_if_unreachable()
    hub.prefer_cache_if_unreachable()
    assert constants.HF_HUB_OFFLINE
    assert len(asked) == 1
    hub.prefer_cache_if_unreachable.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.invalid")
    hub.prefer_cache_if_unreachable()
    assert asked[1] == (("mirror.invalid", 80),), "a mirror without TLS, where it listens"


@pytest.mark.usefixtures("_fresh")
def test_behind_a_proxy_nothing_is_assumed(monkeypatch):
    from huggingface_hub import constants

    def forbidden(*address, **options):
        raise AssertionError("asked although a proxy is set")

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setattr(socket, "create_connection", forbidden)
    hub.prefer_cache_if_unreachable()
    assert not constants.HF_HUB_OFFLINE


def test_what_tells_of_a_network_is_known_by_any_client():
    told = [ConnectionResetError(), TimeoutError(), socket.gaierror(), requests.exceptions.ChunkedEncodingError()]
    told += [hub_errors.OfflineModeIsEnabled()]
    assert all(map(hub.is_lost_connection, told))
    assert not any(map(hub.is_lost_connection, [None, OSError("disk"), EOFError(), ValueError("no such model")]))
