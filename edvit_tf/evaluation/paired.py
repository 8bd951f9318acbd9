"""Two models on the same recordings: who is right where, and what that says of the difference.

Both answered the same recordings, so only those count on which one is right and the other wrong.
"""

import math

import numpy as np


def paired(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> dict:
    """What `first` and `second` (recordings,), the classes that two models name, have of the
    `labels`: plain JSON.

    {"recordings", "first_only", "second_only": counts (right where the other is wrong),
    "difference": accuracy of the first less that of the second, "low", "high": its 95 % interval,
    "p_value": of the exact McNemar test}.
    """
    right = first == labels
    other = second == labels
    first_only = int((right & ~other).sum())
    second_only = int((other & ~right).sum())

    count = len(labels)
    low, high = paired_interval(first_only, second_only, count)
    return {
        "recordings": count,
        "first_only": first_only,
        "second_only": second_only,
        "difference": (first_only - second_only) / count,
        "low": low,
        "high": high,
        "p_value": mcnemar(first_only, second_only),
    }


def mcnemar(first_only: int, second_only: int) -> float:
    """p of the exact two-sided test that either model is as likely to be the one that is right,
    where one alone is: twice the smaller tail of a fair coin, 1 at most. Source: McNemar 1947.
    """
    total = first_only + second_only

    # Sum of C(total, i) up to the smaller count, in whole numbers: thousands of tosses overflow.
    ways = 0
    term = 1
    for i in range(min(first_only, second_only) + 1):
        ways += term
        term = term * (total - i) // (i + 1)
    return min(1.0, 2 * ways / 2**total)


def paired_interval(first_only: int, second_only: int, count: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares seen on the same `count` recordings; (-1, 1)
    without any. Wald's with one more discordant recording on either side, which stays honest where
    there are few or none. Source: Bonett and Price 2012.
    """
    if count == 0:
        return -1.0, 1.0

    first = (first_only + 1) / (count + 2)
    second = (second_only + 1) / (count + 2)
    middle = first - second
    half = 1.959964 * math.sqrt((first + second - middle**2) / (count + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)
