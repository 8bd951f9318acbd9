"""When requests arrive, in seconds from the start: drawn before the first is sent, so that nothing
that happens meanwhile moves them.
"""

import numpy as np


def arrivals(rate: float, seconds: float, seed: int | None = None) -> np.ndarray:
    """The moments (n,) of [0, seconds) at which requests of `rate` a second arrive, in order.

    With a seed by a Poisson process, as many clients that know nothing of each other ask; without
    one (None) at equal distances, the first at 0.
    """
    if seed is None:
        return np.arange(int(np.ceil(rate * seconds - 1e-9))) / rate

    rng = np.random.default_rng(seed)
    moments = np.empty(0)
    last = 0.0
    while last < seconds:
        gaps = rng.exponential(1 / rate, int(rate * seconds) + 16)
        more = last + np.cumsum(gaps)
        moments = np.concatenate([moments, more])
        last = moments[-1]

    return moments[moments < seconds]
