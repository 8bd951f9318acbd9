"""The blocks of the docs are run, page by page, as a reader would: tests/support/doc_blocks.py has
the marks of those that are not.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ROOT
from tests.support.doc_blocks import PAGES, Block, blocks
from tests.support.ports import free_port

AT_ONCE = [page for page in PAGES if any(b.is_run and not b.is_slow for b in blocks(page))]
SLOW = [page for page in PAGES if any(b.is_slow for b in blocks(page))]
LONGEST_SECONDS = 1200


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path, tiny_bundle, tiny_mel_bundle) -> Path:
    """Where a page begins: as a clone, with bundles of pictures and sound that others made."""
    for shared in ("docs", "recipes"):
        (tmp_path / shared).symlink_to(ROOT / shared)
    shutil.copytree(tiny_mel_bundle, tmp_path / "exports" / "gtzan")
    shutil.copytree(tiny_bundle, tmp_path / "exports" / "cloth")
    (tmp_path / "home").mkdir()
    devices = "".join(f'[[device]]\nname = "pi-{n}"\nmemory = "90 MB"\n' for n in range(5))
    (tmp_path / "devices.toml").write_text(devices)
    with wave.open(str(tmp_path / "track.wav"), "wb") as track:
        track.setparams((1, 2, 16_000, 0, "NONE", ""))
        track.writeframes(bytes(2 * 16_000))
    return tmp_path


@pytest.mark.parametrize("page", AT_ONCE, ids=name)
def test_the_blocks_of_a_page_run(page, folder, request):
    if page.name == "three_processes.md":  # begins where the page before it ends
        run(blocks(page.with_name("own_pictures.md"))[0], folder)
    if page.name == "at_a_glance.md":  # looks at a bundle that a run made
        shutil.rmtree(folder / "exports" / "gtzan")
        shutil.copytree(request.getfixturevalue("smoke_bundle"), folder / "exports" / "gtzan")
    run_all([block for block in blocks(page) if block.is_run and not block.is_slow], folder)


@pytest.mark.slow_docs
@pytest.mark.parametrize("page", SLOW, ids=name)
def test_the_slow_blocks_of_a_page_run(page, folder):
    shutil.rmtree(folder / "exports")
    run_all([block for block in blocks(page) if block.is_run], folder)


def test_a_block_that_fails_fails_its_page(folder):
    wrong = Block(ROOT / "README.md", 1, "sh", "", "edvit audit exports/none\n")
    with pytest.raises(AssertionError, match=r"README\.md:1 ends with 7"):
        run_all([wrong], folder)


def run_all(todo: list[Block], folder: Path) -> None:
    """Runs blocks one after the other; what is left in the background ends with the last."""
    port = free_port()
    with contextlib.ExitStack() as background:
        for block in todo:
            if block.mark.startswith("background: "):
                background.enter_context(running(block, folder, port))
            elif block.mark == "stops":
                background.close()
            else:
                run(block, folder, port)


def run(block: Block, folder: Path, port: int = 0) -> None:
    done = subprocess.run(
        command(block, port),
        cwd=folder,
        env=environment(folder),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block.place} ends with {done.returncode}:\n{done.stdout}"


@contextlib.contextmanager
def running(block: Block, folder: Path, port: int) -> Iterator[None]:
    """A block that goes on: waits until it says that it is ready, ends it as Ctrl-C does."""
    ready = block.mark.partition("background: ")[2]
    log = folder / "background.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command(block, port),
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        while ready not in log.read_text("utf-8"):
            assert process.poll() is None and time.monotonic() < until, log.read_text("utf-8")
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)


def command(block: Block, port: int) -> list[str]:
    """What runs a block; the port 8000 of this machine is another one, which is free."""
    text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    if block.language == "python":
        return [sys.executable, "-c", text]
    return ["bash", "-euo", "pipefail", "-c", text]


def environment(folder: Path) -> dict[str, str]:
    """A user's whose home is in `folder`, without data sets or weights, and with our programs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EDVIT_", "HF_", "XDG_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(folder / "home"), "TMPDIR": str(folder), "PATH": path}
