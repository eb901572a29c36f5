import os
import signal

import pytest

from lvd_pretrain.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stopping_signal_is_noted_and_survived(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.name == ""
        os.kill(os.getpid(), number)
        assert stop.name == number.name
    assert signal.getsignal(number) == before
