"""What --check says of power, packages, and the unit that --print-unit prints."""

import configparser
import json
import re
import shutil
import subprocess

import pytest

from edvit_tf.device.model.image import DECODING_BYTES
from edvit_tf.device.rpc import limits
from edvit_tf.device.rpc.condition import REASONS as ALL_REASONS
from edvit_tf.device.worker import announce
from edvit_tf.device.worker.power import power, problems, read_power
from edvit_tf.device.worker.power_watch import PowerWatch
from edvit_tf.device.worker.server import WorkerOptions
from edvit_tf.device.worker.systemd_unit import unit
from tests.support.commands import ROOT, run_device, run_python
from tests.support.worker_process import wait_for

REASONS = set(ALL_REASONS)


@pytest.fixture
def no_vcgencmd(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_machine_that_does_not_tell(tmp_path, no_vcgencmd):
    state = power(tmp_path)
    assert (
        state == {"temperature_c": None, "now": [], "since_boot": [], "source": None}
        and problems(state) == []
    )


def test_the_firmware_s_flags_and_the_hottest_zone(tmp_path, no_vcgencmd):
    put(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    put(tmp_path, "class/thermal/thermal_zone0/temp", "48312\n")
    put(tmp_path, "class/thermal/thermal_zone1/temp", "81000\n")
    state = power(tmp_path)
    assert state == {
        "temperature_c": 81.0,
        "now": ["under-voltage", "throttled"],
        "since_boot": ["under-voltage", "throttled"],
        "source": "firmware",
    }
    assert ["supply" in p or "cool" in p for p in problems(state)] == [True, True]


def test_what_is_over_is_no_problem(tmp_path, no_vcgencmd):
    put(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", "50000\n")
    assert power(tmp_path)["since_boot"] and problems(power(tmp_path)) == []


def test_the_kernel_s_alarm(tmp_path, no_vcgencmd):
    put(tmp_path, "class/hwmon/hwmon2/name", "rpi_volt\n")
    put(tmp_path, "class/hwmon/hwmon2/in0_lcrit_alarm", "1\n")
    assert power(tmp_path)["now"] == ["under-voltage"]


def test_vcgencmd_is_asked_where_the_kernel_has_no_file(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "vcgencmd"
    put(tmp_path, "bin/vcgencmd", "#!/bin/sh\necho throttled=0x4\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assert power(tmp_path) == {
        "temperature_c": None,
        "now": ["throttled"],
        "since_boot": [],
        "source": "vcgencmd",
    }


def test_no_program_is_started_where_the_kernel_has_a_file(tmp_path):
    put(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", "0\n")
    read = read_power(tmp_path, "/does/not/exist/vcgencmd")
    assert read.source == "firmware" and not any(read.now.values()) and set(read.now) == REASONS


def test_what_the_kernel_s_driver_does_not_tell_is_absent(tmp_path):
    put(tmp_path, "class/hwmon/hwmon2/name", "rpi_volt\n")
    put(tmp_path, "class/hwmon/hwmon2/in0_lcrit_alarm", "0\n")
    read = read_power(tmp_path)
    assert (read.now, read.since_boot, read.source) == ({"under-voltage": False}, {}, "rpi_volt")

    put(tmp_path, "class/hwmon/hwmon2/in0_lcrit_alarm", "\n")
    assert read_power(tmp_path) == ((), {}, {}, None)


def test_a_zone_has_its_type_and_what_is_no_temperature_is_none(tmp_path):
    zones = {"cpu-thermal": "48312", "off": "", "broken": "-274000", "odd": "1" * 10**5}
    for place, (kind, text) in enumerate(zones.items()):
        put(tmp_path, f"class/thermal/thermal_zone{place}/type", f"{kind}\n")
        put(tmp_path, f"class/thermal/thermal_zone{place}/temp", f"{text}\n")
    assert read_power(tmp_path).zones == (("thermal_zone0", "cpu-thermal", 48.312),)


def silent_vcgencmd(tmp_path, monkeypatch):
    """A PowerWatch whose vcgencmd says nothing, and its clock, [seconds]."""
    put(tmp_path, "vcgencmd", f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexit 1\n")
    (tmp_path / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("edvit_tf.device.worker.power.SYSTEM", tmp_path)
    now = [1000.0]
    return PowerWatch(lambda: now[0]), now


def test_a_vcgencmd_that_says_nothing_is_not_started_for_ever(tmp_path, monkeypatch):
    watch, _ = silent_vcgencmd(tmp_path, monkeypatch)
    for _ in range(9):
        watch._look()
    assert (tmp_path / "asked").read_text().count("asked") == 3 and watch.properties == {}


def test_a_vcgencmd_that_was_silent_under_load_is_asked_again(tmp_path, monkeypatch):
    watch, now = silent_vcgencmd(tmp_path, monkeypatch)
    for _ in range(9):
        watch._look()
    put(tmp_path, "vcgencmd", "#!/bin/sh\necho throttled=0x4\n")
    watch._look()
    assert watch.condition.reasons() == []
    now[0] += 300
    watch._look()
    assert watch.condition.reasons() == ["throttled"] and watch.gauges()[1].samples


def test_what_was_read_long_ago_is_not_the_present(tmp_path, monkeypatch, no_vcgencmd):
    """As of a sensor that hangs: nothing is read after it."""
    monkeypatch.setattr("edvit_tf.device.worker.power.SYSTEM", tmp_path)
    put(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", "4\n")
    put(tmp_path, "class/thermal/thermal_zone0/temp", "48312\n")
    now = [1000.0]
    watch = PowerWatch(lambda: now[0])
    watch._look()
    now[0] += 12  # two readings are due
    assert watch.condition.temperature_c == 48.312 and watch.properties
    now[0] += 60
    assert watch.condition == ((None, {}, {})) and watch.properties == {}
    assert [list(gauge.samples) for gauge in watch.gauges()] == [[], []]


def test_the_unit_gives_vcgencmd_its_node_where_it_takes_one(tiny_bundle, tmp_path, monkeypatch):
    options = WorkerOptions(
        bundle=tiny_bundle,
        listen="127.0.0.1:8001",
        identity=None,
        sub_models=[0],
    )
    node = tmp_path / "vcio"
    node.touch()
    module = "edvit_tf.device.worker.systemd_unit"
    monkeypatch.setattr(f"{module}._MAILBOX", node)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    lines = [f"DeviceAllow={node} rw", f"BindPaths={node}", f"SupplementaryGroups={node.group()}"]
    assert set(lines) < set(unit(options).splitlines())

    # the kernel's file says the same, and a unit may read it
    monkeypatch.setattr(f"{module}.has_firmware_file", lambda: True)
    text = unit(options)
    assert "vcio" not in text and "DeviceAllow" not in text
    assert not any(line.startswith("InaccessiblePaths=") for line in text.splitlines())


def test_check_fails_with_the_reason_while_the_voltage_is_low(tiny_bundle, tmp_path):
    put(tmp_path, "vcgencmd", "#!/bin/sh\necho throttled=0x1\n")
    (tmp_path / "vcgencmd").chmod(0o755)
    done = run_device(
        "-m", "edvit_tf.device", tiny_bundle, "--check", PATH=f"{tmp_path}:/usr/bin:/bin"
    )
    assert done.returncode == 1 and "PROBLEM: under-voltage now: use the supply" in done.stdout
    assert "all models answer as exported" in done.stdout


def test_check_names_the_versions_and_a_missing_package(tiny_bundle):
    done = run_device("-m", "edvit_tf.device", tiny_bundle, "--check", "--json", "--submodel", "0")
    result = json.loads(done.stdout)
    assert all(
        result[key]
        for key in ("python", "libc", "numpy", "runtime", "grpcio", "protobuf", "processor")
    )
    code = (
        "import importlib.metadata as m; real = m.version\n"
        "def version(name):\n"
        "    if name == 'grpcio': raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
        "from edvit_tf.device.__main__ import main\n"
        f"raise SystemExit(main([{str(tiny_bundle)!r}, '--check', '--submodel', '0']))"
    )
    done = run_python("-c", code)
    assert done.returncode == 1 and "PROBLEM: grpcio or protobuf is missing" in done.stdout, (
        done.stderr
    )


@pytest.mark.parametrize("arguments", [["--check"], ["--listen", "127.0.0.1:0", "--insecure"]])
def test_a_numpy_that_the_runtime_cannot_take_fails_with_the_reason(tiny_bundle, arguments):
    code = (
        "import numpy; numpy.__version__ = '2.2.0'\n"
        "from edvit_tf.device.__main__ import main\n"
        f"raise SystemExit(main([{str(tiny_bundle)!r}, *{arguments}]))"
    )
    done = run_python("-c", code)
    assert (
        done.returncode == 9
        and "needs numpy below 2" in done.stderr
        and "Traceback" not in done.stderr
    )


def printed(bundle, *arguments):
    done = run_device(
        "-m", "edvit_tf.device", bundle, "--listen", "0.0.0.0:8001", "--print-unit", *arguments
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_unit_is_hardened_and_starts_this_worker(tiny_bundle, tmp_path):
    text = printed(
        tiny_bundle, "--identity", "/etc/edvit", "--submodel", "1", "--metrics", "0.0.0.0:9001"
    )
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    assert (
        service["ProtectSystem"] == "strict"
        and service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    )
    assert service["Restart"] == "on-failure" and service["CapabilityBoundingSet"] == ""
    assert service["LimitNOFILE"] == "8192"
    assert set(service["RestartPreventExitStatus"].split()) == {"2", "7", "9", "15", "16", "22"}
    assert service["RestartForceExitStatus"] == "SIGHUP"
    for words in (
        f"{tiny_bundle} --submodel 1 --listen 0.0.0.0:8001",
        "--identity %d",
        "--metrics 0.0.0.0:9001",
    ):
        assert words in service["ExecStart"]
    for name in ("ca.pem", "cert.pem", "key.pem"):
        assert f"LoadCredential={name}:/etc/edvit/{name}\n" in text
    megabytes = int(service["MemoryMax"].removesuffix("M"))
    # 120 MiB of models and process, a quarter more, what a picture of 16 megapixels may take, and
    # what callers may make it hold of their messages
    held = limits.held_bytes(8 << 20)
    assert 120 * 5 // 4 + (DECODING_BYTES + held >> 20) <= megabytes < 800
    if shutil.which("systemd-analyze"):
        file = tmp_path / "edvit-worker.service"
        file.write_text(text)
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", file],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert checked.returncode == 0 and str(file) not in checked.stderr, checked.stderr


def test_memory_and_the_end_of_an_announcement_are_counted(tiny_bundle):
    plain, told = (
        printed(tiny_bundle, "--insecure-anywhere", "--insecure", *more)
        for more in ([], ["--announce"])
    )
    memory = [int(re.search(r"MemoryMax=(\d+)M", text)[1]) for text in (plain, told)]
    assert memory[1] - memory[0] == 16  # zeroconf took 5 MiB alone in a network
    # and the time to take it back, after what was asked before is answered
    stop = [int(re.search(r"TimeoutStopSec=(\d+)", text)[1]) for text in (plain, told)]
    assert stop[1] - stop[0] >= announce._LAST_SECONDS


def test_the_command_of_the_unit_starts_a_worker(tiny_bundle, tmp_path):
    """ExecStart as printed, with another port."""
    line = next(
        row
        for row in printed(tiny_bundle, "--insecure", "--insecure-anywhere").splitlines()
        if row.startswith("ExecStart=")
    )
    command = line.removeprefix("ExecStart=").replace("0.0.0.0:8001", "127.0.0.1:0").split()
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            stderr=log,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "EDVIT_CACHE": str(tmp_path)},
        )
    try:
        wait_for(lambda: '"event": "serving"' in (tmp_path / "log").read_text())
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
