"""The client of the hub, and its errors in words that say what to do."""

import contextlib
from collections.abc import Iterator

from edvit_tf.errors import HubError

ANSWER_SECONDS = 10.0  # within which the hub answers a question about a repository


def client():
    """huggingface_hub's client; HubError where that is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise HubError(
            "the hub needs huggingface_hub, which is not installed. Run pip install "
            "huggingface-hub (or, in a clone of edvit_tf: pip install -e '.[hub]')."
        ) from error
    return HfApi(library_name="edvit_tf")


@contextlib.contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Whatever the client raises about a repository becomes a HubError with what to do."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the client's errors have no base of their own
        words = _words(error)
        # what is no error of the client's or of a network is a fault of ours
        if words is None:
            raise
        raise HubError(f"{name}: {words}") from error


def _words(error: BaseException) -> str | None:
    from huggingface_hub import constants, errors

    # what a thread of an upload met is its cause
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    said = _first_line(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "nothing is fetched or sent: HF_HUB_OFFLINE is set. Unset it, and try again."
    if isinstance(error, errors.HFValidationError):
        return f"that is no name on the hub ({said}). Write OWNER/NAME."
    if isinstance(error, errors.GatedRepoError):
        return "its owner gives it on request: ask on its page, then run hf auth login."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "the hub has no such repository, or shows it to others alone. Check the name; for a "
            "private one run hf auth login, or set HF_TOKEN."
        )
    if isinstance(error, errors.EntryNotFoundError) and not _is_local(error):
        return f"a file is not in the repository ({said}). It was changed meanwhile: try again."
    if isinstance(error, errors.HfHubHTTPError):
        return _http_words(error, said)
    if _is_local(error) or _is_network(error):
        return (
            f"the hub at {constants.ENDPOINT} did not answer ({type(error).__name__}: {said}). "
            "Check the network, and try again."
        )
    return None


def _http_words(error, said: str) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return (
            f"the hub refused ({status}). Run hf auth login, or set HF_TOKEN to a token that may "
            "write there."
        )
    return f"the hub refused: {said}. Try again later."


def _is_local(error: BaseException) -> bool:
    """Nothing in the cache, and the hub was not to be reached."""
    from huggingface_hub import errors

    return isinstance(error, errors.LocalEntryNotFoundError)


def _is_network(error: BaseException) -> bool:
    # of requests, httpx or the standard library, whichever this version of the client uses
    room = type(error).__module__.partition(".")[0]
    return room in ("requests", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3") or (
        isinstance(error, ConnectionError | TimeoutError)
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
