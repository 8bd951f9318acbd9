"""A real Prometheus for tests, on a port of the kernel's choice."""

import contextlib
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.worker_process import wait_for

# Debian: apt-get install prometheus, which has both
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus and promtool are not installed (Debian: apt-get install prometheus)",
)


class Prometheus:
    """One that runs, by its HTTP API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def asked(self, path: str, **parameters: str) -> dict:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def query(self, expression: str) -> list[dict]:
        """The samples of an expression now. HTTPError for one that does not parse."""
        return self.asked("query", query=expression)["result"]

    def firing(self) -> set[tuple[str, str]]:
        """(alert, device or else sub-model) of each that fires."""
        labels = [
            one["labels"] for one in self.asked("alerts")["alerts"] if one["state"] == "firing"
        ]
        return {(each["alertname"], each.get("device") or each.get("model", "")) for each in labels}


@contextlib.contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """Runs with the configuration until the end of the block; its data go into `folder`."""
    log = folder / "prometheus.log"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += ["--web.listen-address=127.0.0.1:0", "--log.format=json"]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file)
    try:

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            lines = [line for line in log.read_text().splitlines(keepends=True) if line[-1] == "\n"]
            # it listens before it answers
            if not any('"Server is ready' in line for line in lines):
                return None
            return next(json.loads(line)["address"] for line in lines if '"Listening on"' in line)

        yield Prometheus(wait_for(address, 60))
    finally:
        process.kill()
        process.wait()


def promtool(*arguments: str | Path) -> str:
    """What promtool says; it must not complain."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
