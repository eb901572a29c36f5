"""For all tests of the three tools: examples without a clock, and what shows that a hostile input did nothing."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that others use, too.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that must not be there when the test ends: whoever ran code of an input made it."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "code from an input was run"


@contextmanager
def refuse_network() -> Iterator[None]:
    """Refuse every connection, and fail at the end if one was tried."""
    asked: list[object] = []

    def refuse(*words: object, **_: object) -> None:
        asked.append(words)  # an error alone could be taken for a network that is down
        raise OSError("there is no network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield
    assert not asked, f"the network was asked for {asked}"


@pytest.fixture(scope="session")
def offline() -> Callable[[], AbstractContextManager[None]]:
    """`with offline(): ...` connects to nothing."""
    return refuse_network


def open_in_browser(page: Path, profile: Path) -> str:
    """The HTML of a page after its scripts ran, in Chromium where it is installed; `profile` is an empty folder."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += f" disable-component-update disable-sync dump-dom virtual-time-budget=2000 user-data-dir={profile}"
    words = [chromium, *(f"--{flag}" for flag in flags.split()), page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="session")
def browse() -> Callable[[Path, Path], str]:
    """`browse(page, profile)`: the HTML of a page after its scripts ran."""
    return open_in_browser
