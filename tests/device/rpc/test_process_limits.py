"""What a server gives back of its memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# 20,000 blocks of 3 kB, of which every fiftieth stays: glibc keeps what lies between them
CODE = """
import asyncio
from edvit_tf.device.rpc import process_limits

process_limits._GIVE_BACK_SECONDS = 0.1

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

async def burst():
    task = asyncio.create_task(process_limits.keep_giving_back())
    before = resident_mib()
    blocks = [bytes(3000) for _ in range(20_000)]
    kept = blocks[::50]
    del blocks
    most = resident_mib()
    for _ in range(300):
        await asyncio.sleep(0.1)
        if resident_mib() - before < 10:
            break
    task.cancel()
    print(before, most, resident_mib(), len(kept))

asyncio.run(burst())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and glibc's malloc_trim is meant")
def test_what_a_burst_left_between_blocks_goes_back_to_the_system():
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, most, after, _ = map(float, done.stdout.split())
    assert most - before > 40
    assert after - before < 10
