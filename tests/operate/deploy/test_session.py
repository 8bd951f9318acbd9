"""Why a command of a machine failed, and what to do next."""

import sys

import pytest

from edvit_tf.operate.deploy.commands import Command
from edvit_tf.operate.deploy.session import StepFailed, answer, run, why


@pytest.mark.parametrize(
    "said, words",
    [
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", "ssh-keygen -R pi;"),
        ("No ED25519 host key is known\nHost key verification failed.", "--accept-new-hosts"),
        ("me@pi: Permission denied (publickey,password).", "ssh-copy-id me@pi"),
        ("ssh: Could not resolve hostname pi: Name or service not known", "no such name"),
        ("ssh: connect to host pi port 22: Connection refused", "enable --now ssh"),
        ("ssh: connect to host pi port 22: Connection timed out", "Is it on"),
        ("sudo: a password is required", "NOPASSWD"),
        ("sudo: a terminal is required to read the password", "NOPASSWD"),
        ("bash: line 1: sudo: command not found", 'ssh = "root@..."'),
        ("rsync: write failed: No space left on device (28)", "the disk is full"),
        ("error: /opt/x has 0.5 MiB free; this version needs 3.0 MiB", "the disk is full"),
        ("ERROR: [Errno 28] No space left", "the disk is full"),
        (
            'rsync: [Receiver] mkdir "/home/me/edvit-deploy" failed: Permission denied (13)',
            "the home",
        ),
        ("scp: dest open 'edvit-deploy/a.whl': Permission denied", "the home of who logs in"),
        ("mkdir: cannot create directory 'edvit-deploy': Read-only file system", "is read-only"),
        ("OSError: [Errno 30] Read-only file system: '/opt'", "change the card"),
        ("ensurepip is not available. apt install python3.11-venv", "python3-venv"),
        ("sh: 1: python3: not found", "no python3"),
        ("ERROR: No matching distribution found for numpy", "--wheels"),
    ],
)
def test_known_words_have_a_next_thing_to_do(said, words):
    told = why("me@pi", "ssh", 255, f"noise\n{said}\n")
    assert words in told and said.splitlines()[-1][:12] in told


def test_a_machine_that_does_not_know_its_own_name_is_not_told_to_be_offline():
    """sudo says so before each command; it is not why one failed."""
    noise = "sudo: unable to resolve host pi: Temporary failure in name resolution\n"
    told = why("pi", "ssh", 1, f"{noise}edvit-worker.service is failed and does not answer\n")
    assert told == "ssh ended with 1: edvit-worker.service is failed and does not answer"
    missing = "ERROR: No matching distribution found for shtab"
    assert f"({missing})" in why("pi", "ssh", 1, f"{noise}{missing}\n")


def test_unknown_words_are_told_as_they_are():
    assert (
        why("pi", "ssh", 16, "\nerror: wrong answers\n")
        == "ssh ended with 16: error: wrong answers"
    )
    assert "Try: ssh pi" in why("pi", "ssh", 255, "kex_exchange_identification: reset")


def python(code, seconds=60.0, stdin=None):
    return Command([sys.executable, "-c", code], seconds, stdin)


def test_commands_run_in_turn_up_to_the_first_that_fails(tmp_path):
    touch = f"open({str(tmp_path / 'made')!r}, 'w')"
    with pytest.raises(StepFailed, match="ended with 3"):
        run("pi", [python("print(1)"), python("raise SystemExit(3)"), python(touch)])
    assert not (tmp_path / "made").exists()
    given = python("import sys; print(sys.stdin.read())", stdin=b"a")
    assert run("pi", [python("print(1)"), given]) == "a\n"


def test_one_that_never_ends_is_ended():
    with pytest.raises(StepFailed, match="not done after 0.5 s"):
        run("pi", [python("import time; time.sleep(60)", seconds=0.5)])


def test_an_answer_is_the_last_line_and_nothing_else():
    assert answer("pi", python("print('welcome'); print('{\"a\": 1}')")) == {"a": 1}
    for last in ("welcome", "[1]", "17", "null", "[" * 100_000):
        with pytest.raises(StepFailed, match="prints words of its own"):
            answer("pi", python(f"print({last!r})" if len(last) < 99 else "print('[' * 100_000)"))
