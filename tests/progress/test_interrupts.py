"""Ctrl-C ends a run even where its exception was swallowed."""

import signal
import threading

import pytest

from edvit_tf.progress.interrupts import end_if_asked, heeded


def test_an_interrupt_that_was_swallowed_ends_the_run_at_its_next_step():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with heeded():
            end_if_asked()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)  # a library takes it for its own
            with pytest.raises(KeyboardInterrupt):
                end_if_asked()

        end_if_asked()  # what comes after is another run
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_has_a_handler_of_his_own_keeps_it():
    told = []
    before = signal.signal(signal.SIGINT, lambda *_: told.append(1))
    try:
        with heeded():
            signal.raise_signal(signal.SIGINT)
            end_if_asked()
        assert told == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_than_the_main_one_may_run_it():
    ended = []

    def run():
        with heeded():
            end_if_asked()
            ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [True]
