"""Keras' cached copies of MNIST and CIFAR-10, and their download, which fails soon and clearly
without a network.
"""

import os
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

from .folders import Found, MissingData, find_layouts, wrong_layout

URLS = {
    "mnist": "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
}
# For the server's first answer; a name server alone may take longer, hence the thread.
PROBE_SECONDS = 15.0


def cache_folder() -> Path:
    """Where Keras keeps data sets: $KERAS_HOME/datasets, else ~/.keras/datasets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def cached_or_downloaded(
    name: str, is_layout: Callable, looked: list[Path], layout: str
) -> list[Found]:
    """The data set's folder in Keras' cache, downloaded by Keras if need be; MissingData if that
    fails.
    """
    looked.append(cache_folder())
    found = _cached(is_layout)
    if found:
        return found

    problem = _unreachable(URLS[name])
    if problem is None:
        problem = _download(name)
        found = _cached(is_layout)
        if found:
            return found

    raise MissingData(
        f"{wrong_layout(name, looked, layout)}\nThe download from {URLS[name]} failed: {problem}."
    )


def _cached(is_layout: Callable) -> list[Found]:
    """The first folder of the cache with the layout, if there is one."""
    found = find_layouts(cache_folder(), is_layout)
    return [Found(f.folder, f"keras {f.folder.name}") for f in found[:1]]


def _download(name: str) -> str | None:
    """Why Keras could not download it; None if it could."""
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30.0)  # a download that stalls must end too
    try:
        getattr(keras.datasets, name).load_data()
    except Exception as error:  # noqa: BLE001, Keras wraps what urllib raises in a bare one
        return str(error)
    finally:
        socket.setdefaulttimeout(before)
    return None


def _unreachable(url: str) -> str | None:
    """Why the address does not answer within PROBE_SECONDS; None if it does."""
    result: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            result.append(None)
        except Exception as error:  # noqa: BLE001, told by the thread that asked
            result.append(str(error) or type(error).__name__)

    # A daemon: a name server that hangs must not keep the process alive.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return result[0] if result else f"no answer within {PROBE_SECONDS:g} s"
