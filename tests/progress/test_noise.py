"""What native code writes past Python is kept out of the terminal, and not lost."""

from tests.support.commands import run_python

WRITES = """
import os, sys
from pathlib import Path
from edvit_tf.progress.noise import native_log
log = {log}
try:
    with native_log(log):
        os.write(2, b"native words\\n")
        print("python words", file=sys.stderr)
        {then}
finally:
    os.write(2, b"native words after\\n")
"""


def ran(log, then="pass"):
    return run_python("-c", WRITES.format(log=log, then=then))


def test_native_words_go_to_the_log_and_pythons_do_not(tmp_path):
    log = tmp_path / "run.log"
    done = ran(f"Path({str(log)!r})")
    assert done.returncode == 0
    assert done.stderr == "python words\nnative words after\n"
    assert log.read_text() == "native words\n"


def test_a_run_within_a_command_has_them_in_its_own_log(tmp_path):
    log = tmp_path / "run.log"
    then = f"""
        with native_log(Path({str(log)!r})):
            os.write(2, b"of the run\\n")
            print("of Python", file=sys.stderr)
        raise ZeroDivisionError"""
    done = ran("None", then)
    assert log.read_text() == "of the run\n"
    # what was written outside of the run is shown after a fault, and no more
    assert "python words\nof Python\nnative words\n" in done.stderr
    assert "of the run" not in done.stderr and "native words after\n" in done.stderr


def test_without_a_log_they_are_shown_only_after_a_fault_that_nobody_expected():
    assert ran("None").stderr == "python words\nnative words after\n"

    done = ran("None", "raise ZeroDivisionError")
    assert "\nnative words\n" in done.stderr and "ZeroDivisionError" in done.stderr

    expected = "from edvit_tf.errors import ConfigError; raise ConfigError('x')"
    assert "\nnative words\n" not in ran("None", expected).stderr


def test_a_crash_of_native_code_leaves_a_traceback_on_standard_error(tmp_path):
    done = ran(f"Path({str(tmp_path / 'run.log')!r})", "os.abort()")
    assert done.returncode != 0 and "Fatal Python error: Aborted" in done.stderr


def test_a_log_that_cannot_be_opened_ends_nothing(tmp_path):
    done = ran(f"Path({str(tmp_path / 'nowhere' / 'run.log')!r})")
    assert done.returncode == 0 and "native words\npython words" in done.stderr
