"""The unit of an aggregator: hardened, with a command that starts it."""

import configparser
import re
import shlex
import shutil
import subprocess

import pytest

from edvit_tf.aggregate import systemd_unit
from edvit_tf.aggregate.outgoing import MAX_SENT_BYTES
from edvit_tf.aggregate.server import AggregatorOptions
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.memory import needed_memory
from edvit_tf.device.rpc.limits import held_bytes
from edvit_tf.device.rpc.request_input import message_limit
from tests.support.commands import run_command

SERVE = ("--listen", "0.0.0.0:8000", "--identity", "/etc/edvit hub", "--print-unit")


def printed(bundle, devices, *more) -> str:
    code, out, err = run_command(["serve", bundle, "--devices", devices, *SERVE, *more])
    assert code == 0, err
    return out


def test_the_unit_is_hardened_and_starts_this_aggregator(tiny_bundle, tmp_path):
    devices = tmp_path / "devices.toml"
    devices.write_text('[[device]]\nname = "a"\nhost = "10.0.0.7"\n')
    more = ["--metrics", "127.0.0.1:9000", "--min-submodels", "1", "--login-token", "/etc/token"]
    text = printed(tiny_bundle, devices, *more)
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    assert service["ProtectSystem"] == "strict" and service["DynamicUser"] == "yes"
    assert "CacheDirectory" not in service and service["Restart"] == "on-failure"
    assert {"3", "7", "15"} <= set(service["RestartPreventExitStatus"].split())
    assert "LoadCredential=key.pem:/etc/edvit hub/key.pem\n" in text
    assert "LoadCredential=login.token:/etc/token\n" in text
    assert "--login-token %d/login.token" in service["ExecStart"]
    # what goes out to devices at once, beside what comes in
    assert 400 < int(service["MemoryMax"].removesuffix("M")) < 1500

    from edvit_tf.cli.main import _parser

    words = shlex.split(service["ExecStart"])
    args = _parser().parse_args(words[3:])
    assert (args.bundle, args.devices, args.min_submodels) == (tiny_bundle, str(devices), 1)
    if shutil.which("systemd-analyze"):
        file = tmp_path / "edvit-aggregator.service"
        file.write_text(text)
        command = ["systemd-analyze", "verify", "--man=no", file]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0 and str(file) not in checked.stderr, checked.stderr


def mebibytes(text: str) -> int:
    return int(re.search(r"MemoryMax=(\d+)M", text)[1])


def test_memory_for_a_reload_and_for_traces_is_counted(tiny_bundle, tmp_path):
    """A second fusion, and a third in the process that tries it, beside the base of 128 MiB."""
    plain = printed(tiny_bundle, "10.0.0.7:8001")
    bundle = open_bundle(tiny_bundle)
    limit = message_limit(bundle_input(bundle))
    fusion = needed_memory((bundle.path / bundle.fusion.file).stat().st_size)
    once = held_bytes(limit) + MAX_SENT_BYTES + fusion + (128 << 20)
    assert mebibytes(plain) << 20 >= once + 2 * fusion + (43 << 20)  # what the trial took, measured

    traced = printed(tiny_bundle, "10.0.0.7:8001", "--traces", "http://collector.local:4318")
    assert mebibytes(traced) - mebibytes(plain) == 32 and ", traces 32\n" in traced


def test_devices_in_a_home_are_seen(tiny_bundle, monkeypatch):
    monkeypatch.setattr(systemd_unit, "fleet_devices", lambda text: ())
    options = AggregatorOptions(
        bundle=tiny_bundle,
        listen="127.0.0.1:8000",
        identity=None,
        devices="/home/me/devices.toml",
    )
    assert "\nProtectHome=read-only\n" in systemd_unit.unit(options)


@pytest.mark.parametrize(
    "more, code, words",
    [
        (["--min-submodels", "9"], 3, "--min-submodels is 9"),
        (["--devices", "nowhere"], 3, "is no address"),
        (["--listen", "0.0.0.0"], 17, "is no address"),
    ],
)
def test_what_would_not_start_is_refused(tiny_bundle, more, code, words):
    command = ["serve", tiny_bundle, "--devices", "10.0.0.7:8001", *SERVE, *more]
    got, out, err = run_command(command)
    assert (got, out) == (code, "") and words in err
