"""Ctrl-C and SIGTERM between two steps."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tf_levelset.training.interrupts import Interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_stops(
    first: int, second: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with Interrupts() as interrupts:
        assert not interrupts.requested
        interrupts.raise_if_requested()
        send(first)
        # Reached: the current step is completed.
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            send(second)
    with pytest.raises(KeyboardInterrupt):
        interrupts.raise_if_requested()
    assert "Stopping after this step" in capsys.readouterr().out


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_handlers_are_restored(error: type[BaseException] | None) -> None:
    def mine(number: int, frame: object) -> None:
        raise AssertionError

    old = [signal.signal(number, mine) for number in SIGNALS]
    try:
        if error is None:
            with Interrupts():
                assert mine not in handlers()
        else:
            with pytest.raises(error), Interrupts():
                raise error
        assert handlers() == [mine, mine]
    finally:
        for number, handler in zip(SIGNALS, old, strict=True):
            signal.signal(number, handler)


def test_other_threads_change_no_handler() -> None:
    before, during = handlers(), []

    def work() -> None:
        with Interrupts() as interrupts:
            during.extend(handlers())
            interrupts.raise_if_requested()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == before == handlers()
