"""Studies of the method on a trained base, each a table that can be measured again: `edvit study
scores|cuts|clusters`.

Read `common.py` (the base and its samples, rows kept as they come), `scores.py` (do the cheap
scores rank like the exact one, and what do they cost), `cuts.py` (accuracy after each cut, repair
and fit, by score, residual method and heads), `clusters.py` (weights on few values: bytes over a
slow link against accuracy). `sweep.py` is `edvit sweep`: a recipe over several numbers of devices.
"""
