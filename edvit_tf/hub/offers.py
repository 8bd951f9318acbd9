"""Which small pretrained models the hub has, with what fetching them takes, as it says itself."""

import fnmatch
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edvit_tf.errors import HubError
from edvit_tf.hub.client import client, hub_errors

WAIT_SECONDS = 4.0  # for all answers together: nobody waits longer for advice


@dataclass(frozen=True)
class Offer:
    """A model on the hub: its name there, and the bytes that would be fetched."""

    name: str
    size_bytes: int


def offers(
    names: Iterable[str], patterns: Iterable[str], is_known: Callable[[dict], bool]
) -> list[Offer] | None:
    """Those of `names` that the hub has and whose configuration `is_known`; None where it does not
    answer in time, is not to be asked (HF_HUB_OFFLINE), or its client is not installed.

    `patterns` say which files would be fetched.
    """
    try:
        from huggingface_hub import constants, errors
    except ImportError:
        return None
    if constants.HF_HUB_OFFLINE:
        return None

    api = client()
    names, patterns = list(names), list(patterns)
    answers: dict[str, Offer | None] = {}

    def ask(name: str) -> None:
        try:
            with hub_errors(name):
                info = api.model_info(name, files_metadata=True, timeout=WAIT_SECONDS)
                answers[name] = _offer(info, patterns, is_known)
        except HubError as error:
            if isinstance(error.__cause__, errors.RepositoryNotFoundError):
                answers[name] = None

    # A resolver that hangs knows no timeout: whoever has not answered by then is not waited for.
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    deadline = time.monotonic() + WAIT_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))

    kept = [one for name in names if (one := answers.get(name)) is not None]
    return kept if answers else None


def _offer(info, patterns: list[str], is_known: Callable[[dict], bool]) -> Offer | None:
    if not is_known(info.config or {}):
        return None
    size = 0
    for file in info.siblings or ():
        if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in patterns):
            size += file.size or 0
    return Offer(info.id, size) if size else None
