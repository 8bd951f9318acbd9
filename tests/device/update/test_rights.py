"""`sudo ... install`: no link of a bundle is followed, nothing without a sha256 comes along, and
models are tried without root's rights.
"""

import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest

from edvit_tf.device.errors import BundleError, ModelFailed
from edvit_tf.device.model import subprocess_run, unprivileged
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.golden import expected_answers
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.update import store as versions
from edvit_tf.export.bundle import add_file
from tests.support.commands import ROOT, run_python
from tests.support.update_store import digests, run

SECRET = "root's secret"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def other(bundles, tmp_path):
    """A copy of the second bundle, to be changed."""
    return shutil.copytree(bundles[1], tmp_path / "other")


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def held(store) -> str:
    """All that lies in a store, as text."""
    texts = []
    for path in store.rglob("*"):
        if path.is_file():
            texts.append(path.read_text("latin-1"))
    return "".join(texts)


@pytest.mark.parametrize("name", ["results.json", "labels.txt", "README.md", "signature.json"])
def test_what_a_link_leads_to_is_not_copied(store, other, secret, name, capsys):
    (other / name).unlink(missing_ok=True)
    (other / name).symlink_to(secret)
    code = run(store, "install", other)
    # listed or asked for: refused; else left behind
    assert code == (0 if name in ("results.json", "README.md") else 7)
    assert SECRET not in held(store) + capsys.readouterr().err


@pytest.mark.parametrize("name", ["submodel-00.tflite", "golden.npz", "manifest.json"])
def test_a_link_within_the_bundle_is_refused_too(store, other, name, capsys):
    (other / name).rename(other / "moved")
    (other / name).symlink_to("moved")
    assert run(store, "install", other) == 7
    assert "links are not followed" in capsys.readouterr().err


def test_a_link_that_comes_after_the_check_is_not_followed(store, other, secret, monkeypatch):
    """Between sha256 and the copy whoever owns the folder may change it."""
    room = versions.free_bytes

    def swapped(folder):
        (other / "golden.npz").unlink(missing_ok=True)
        (other / "golden.npz").symlink_to(secret)
        return room(folder)

    monkeypatch.setattr(versions, "free_bytes", swapped)
    before = digests(store)
    assert run(store, "install", other) == 7
    assert digests(store) == before and SECRET not in held(store)


def test_the_copy_is_nobody_else_s_until_it_is_verified(store, other, monkeypatch):
    modes = []
    verified = versions.verified_path

    def seen(bundle, name):
        if bundle.path.name == "version":
            modes.append(bundle.path.stat().st_mode & 0o777)
        return verified(bundle, name)

    monkeypatch.setattr(versions, "verified_path", seen)
    assert run(store, "install", other) == 0
    assert modes and set(modes) == {0o700}
    assert (store / "current").stat().st_mode & 0o777 == 0o755


def test_results_come_along_with_their_sha256(store, other, capsys):
    (other / "results.json").write_text('{"missing_one": []}')
    assert run(store, "install", other) == 0
    assert "results.json was left out, for the manifest has no sha256" in capsys.readouterr().out
    assert not (store / "current" / "results.json").exists()

    add_file(other, "results.json")
    assert run(store, "install", other) == 0
    assert (store / "current" / "results.json").read_text() == '{"missing_one": []}'
    (other / "results.json").write_text('{"missing_one": [1]}')
    assert run(store, "install", other) == 7


def test_a_finished_run_lists_its_results(smoke_bundle):
    assert "results.json" in open_bundle(smoke_bundle).files


@root_only
def test_a_model_of_root_s_is_run_as_nobody(bundles, tmp_path, monkeypatch):
    """By a child that says, when it has loaded the model, who it is and what it may open; its
    folders are root's alone.
    """
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    tmp_path.chmod(0o700)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    # a sitecustomize is loaded by the child alone
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'edvit_tf.device.model.subprocess_main' in sys.orig_argv:\n"
        "    from edvit_tf.device.model import runtime\n"
        "    import json, os\n"
        "    load = runtime.load\n"
        f"    said = open({str(tmp_path / 'said')!r}, 'w', buffering=1)\n"
        "    def spying(*args, **kwargs):\n"
        "        model = load(*args, **kwargs)\n"
        f"        try: text = open({str(tmp_path / 'secret')!r}).read()\n"
        "        except PermissionError: text = None\n"
        "        said.write(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), text]))\n"
        "        return model\n"
        "    runtime.load = spying\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    opened = open_bundle(bundle)
    inputs, expected = expected_answers(opened, 0)
    path = bundle / opened.entry(0).file

    answers, _ = run_model(path, inputs, unprivileged=True)
    nobody = [65534] * 3
    assert json.loads((tmp_path / "said").read_text()) == [nobody, nobody, [], None]
    np.testing.assert_allclose(answers["features"], expected["features"], rtol=1e-3)

    run_model(path, inputs)
    assert json.loads((tmp_path / "said").read_text())[3] == SECRET  # as who asks, otherwise


@root_only
def test_install_and_check_try_models_as_nobody(bundles, store, monkeypatch):
    asked = []
    start = subprocess.Popen

    def seen(command, **options):
        asked.append("--unprivileged" in command)
        return start(command, **options)

    monkeypatch.setattr(subprocess_run.subprocess, "Popen", seen)
    assert run(store, "install", bundles[1]) == 0
    assert asked and all(asked)


@root_only
def test_files_that_only_root_may_read_are_tried_as_nobody_too(bundles, store, tmp_path):
    bundle = shutil.copytree(bundles[1], tmp_path / "private")
    for path in bundle.iterdir():
        path.chmod(0o600)
    opened = open_bundle(bundle)
    inputs, expected = expected_answers(opened, 0)
    answers, report = run_model(bundle / opened.entry(0).file, inputs, unprivileged=True)
    np.testing.assert_allclose(answers["features"], expected["features"], rtol=1e-3)
    assert report["delegation"]["operators"]


@root_only
def test_nobody_is_become_where_there_is_no_setresuid():
    done = run_python(
        "-c",
        "import os\n"
        "get = os.getresuid\n"
        "del os.setresuid, os.setresgid\n"
        "from edvit_tf.device.model.unprivileged import become_nobody\n"
        "become_nobody()\n"
        "print(get())\n",
    )
    assert done.stdout == "(65534, 65534, 65534)\n", done.stderr


def test_a_model_has_no_terminal_and_leaves_no_process(bundles, tmp_path, monkeypatch):
    """Into a terminal it could type as whoever asked; what it started would go on as nobody."""
    # a sitecustomize is loaded by the child alone
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'edvit_tf.device.model.subprocess_main' in sys.orig_argv:\n"
        "    import json, os, subprocess\n"
        "    quiet = subprocess.DEVNULL\n"
        "    left = subprocess.Popen(['sleep', '60'], stdout=quiet, stderr=quiet)\n"
        f"    with open({str(tmp_path / 'said')!r}, 'w') as said:\n"
        "        json.dump([os.getpid(), os.getsid(0), os.readlink('/proc/self/fd/0'), left.pid],\n"
        "                  said)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    opened = open_bundle(bundles[0])
    inputs, _ = expected_answers(opened, 0)
    run_model(bundles[0] / opened.entry(0).file, inputs, unprivileged=True)

    process, session, stdin, left = json.loads((tmp_path / "said").read_text())
    assert session == process and stdin == os.devnull
    deadline = time.monotonic() + 60
    while _lives(left):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(process: int) -> bool:
    """Whether it runs; one that has ended may wait for its parent."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_root_of_a_container_with_one_user_has_nothing_to_give_away(monkeypatch, tmp_path):
    monkeypatch.setattr(unprivileged.os, "geteuid", lambda: 0)
    monkeypatch.setattr(unprivileged.os, "setgroups", lambda groups: pytest.fail("tried"))
    monkeypatch.setattr(unprivileged, "_UID_MAP", tmp_path / "map")
    (tmp_path / "map").write_text("         0       1000          1\n")
    unprivileged.become_nobody()

    # where nobody is known, and it cannot be become, no model is loaded
    (tmp_path / "map").write_text("         0          0 4294967295\n")

    def refused(groups):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(unprivileged.os, "setgroups", refused)
    with pytest.raises(ModelFailed, match="cannot become user"):
        unprivileged.become_nobody()


def test_answers_of_a_stranger_s_model_are_not_believed_unseen(tmp_path, monkeypatch, bundles):
    """It may have written into the file of its answers."""
    opened = open_bundle(bundles[0])
    inputs, _ = expected_answers(opened, 0)

    def wrote(name, words, timeout_seconds):
        with open(words[2], "wb") as file:
            file.truncate(1 << 30)

    monkeypatch.setattr(subprocess_run, "_run", wrote)
    with pytest.raises(ModelFailed, match="left no answers"):
        run_model(bundles[0] / opened.entry(0).file, inputs, unprivileged=True)


REPORT = {
    "runtime": "tflite-runtime 2.14.0",
    "import_ms": 1.0,
    "load_ms": 1.0,
    "start_rss_bytes": 1,
    "peak_rss_bytes": None,
    "delegation": None,
}


@pytest.mark.parametrize(
    "report, times",
    [
        ({}, [1.0]),
        ("[" * 100_000, [1.0]),
        ([], [1.0]),
        ({**REPORT, "load_ms": "1"}, [1.0]),
        ({**REPORT, "load_ms": 10**400}, [1.0]),
        ({**REPORT, "peak_rss_bytes": float("nan")}, [1.0]),
        ({**REPORT, "runtime": "\x1b[31m"}, [1.0]),
        (REPORT, []),
        (REPORT, ["now"]),
        (REPORT, [float("nan")]),
        (REPORT, 1.0),
        (REPORT, None),
        (None, [1.0]),
    ],
)
def test_a_report_of_a_stranger_s_model_is_not_believed_unseen(
    tmp_path, monkeypatch, bundles, report, times
):
    opened = open_bundle(bundles[0])
    inputs, _ = expected_answers(opened, 0)
    arrays = {} if times is None else {"invoke_ms": np.array(times)}
    if report is not None:
        text = report if isinstance(report, str) else json.dumps(report)
        arrays["report"] = np.array(text)

    monkeypatch.setattr(subprocess_run, "_run", lambda _, words, __: np.savez(words[2], **arrays))
    with pytest.raises(ModelFailed, match="left no report") as refused:
        run_model(bundles[0] / opened.entry(0).file, inputs, unprivileged=True)
    assert "\x1b" not in str(refused.value)


def test_folders_that_are_links_are_opened_once(store, other, tmp_path):
    """`install` of a link to a bundle takes the bundle that it led to."""
    (tmp_path / "link").symlink_to(other)
    assert run(store, "install", tmp_path / "link") == 0
    with pytest.raises(BundleError, match="links are not followed"):
        (other / "x").symlink_to("y")
        folder = versions.open_folder(other)
        try:
            versions.open_plain(folder, "x", other)
        finally:
            os.close(folder)


def test_the_child_says_what_is_wrong_with_its_files(bundles, tmp_path):
    done = run_python(
        "-m",
        "edvit_tf.device.model.subprocess_main",
        tmp_path / "nothing.tflite",
        tmp_path / "inputs.npz",
        tmp_path / "out.npz",
        "--unprivileged",
    )
    assert done.returncode == 1 and "nothing.tflite" in done.stderr
    assert "Traceback" not in done.stderr
