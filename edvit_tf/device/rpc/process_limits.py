"""What the limits of this process leave (prlimit, ulimit), looked at before a server begins.

gRPC's core aborts the process where it finds no descriptor or no memory for a thread, and the
TFLite runtime crashes, so both are counted first.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

from edvit_tf.device.errors import DescriptorsShort, MemoryShort
from edvit_tf.device.model.memory import left_by_limit, process_limit

# Measured at a worker and an aggregator that serve: 20 descriptors with the log and the metrics;
# beyond what they have when the command line is read, 120 MiB of data (libraries, gRPC's threads)
# and 900 MiB of address space (the memory allocator reserves 64 MiB a thread, and does with less;
# with 480 MiB gRPC's core aborts).
SERVER_DESCRIPTORS = 32
SERVER_BYTES = {
    "RLIMIT_DATA": ("data (ulimit -d)", 128 << 20),
    "RLIMIT_AS": ("address space (ulimit -v)", 768 << 20),
}


# Of glibc's mallopt (malloc.h). Set, it does not grow any more.
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK_BYTES = 1 << 20
_GIVE_BACK_SECONDS = 10.0


def check_descriptors(peers: int = 0) -> None:
    """Raises DescriptorsShort unless a server may open what it takes, with connections to so many
    `peers`.
    """
    need = SERVER_DESCRIPTORS + peers
    limit = process_limit("RLIMIT_NOFILE")
    if limit is not None and limit < need:
        raise DescriptorsShort(
            f"this process may open {limit} files; a server takes {need}, and one more for each "
            "client. Raise the limit (ulimit -n, LimitNOFILE= in its unit)."
        )


def prepare_server() -> None:
    """Raises MemoryShort or DescriptorsShort unless this process's own limits leave what a server
    takes beside its models. To be called before gRPC and a runtime are imported.
    """
    # gRPC's core writes lines of its own between those of the JSON log otherwise;
    # GRPC_VERBOSITY=INFO shows refused handshakes.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    check_descriptors()
    give_back_large_blocks()

    for kind, (what, need) in SERVER_BYTES.items():
        left = left_by_limit(kind)
        if left is not None and left < need:
            raise MemoryShort(
                f"the limit of this process's {what} leaves {left / 2**20:.0f} MiB; a server takes "
                f"{need / 2**20:.0f} MiB beside its models. Raise the limit."
            )


def give_back_large_blocks() -> None:
    """From now on memory of large inputs goes back to the system when it is freed.

    glibc maps large blocks each by itself, up to a size that grows with what was freed: after the
    first picture of 8 MiB such blocks come out of the heaps, where small ones keep them.
    """
    # another C library has its own ways
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


async def keep_giving_back() -> None:
    """Gives freed memory of small blocks back to the system, again and again.

    After a burst of requests, or of a peer's calls, glibc keeps what was freed between blocks that
    are still used, and the process would stay as large as the worst burst made it.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library has its own ways
        return

    while True:
        await asyncio.sleep(_GIVE_BACK_SECONDS)
        # in a thread: it holds one heap after the other, for milliseconds
        await asyncio.to_thread(trim, 0)


@contextlib.contextmanager
def ends_without_memory() -> Iterator[None]:
    """Where the block finds no memory: the reason on standard error, and the end with the exit code
    of MemoryShort.

    By os._exit, because an interpreter without memory may hang on its way out.
    """
    try:
        yield
        return
    except MemoryShort as error:
        text = str(error)
    except MemoryError:
        text = "there is no more memory for this process. Stop other programs, or raise its limit."
    except RuntimeError as error:
        # Python's words where there is no memory for a thread's stack
        if not ("start" in str(error) and "thread" in str(error)):
            raise
        text = f"{error}: too little memory. Stop other programs, or raise the limit."

    # even this may find no memory
    with contextlib.suppress(OSError, MemoryError):
        sys.stdout.flush()
        print(f"error: {text}", file=sys.stderr, flush=True)

    os._exit(MemoryShort.exit_code)
