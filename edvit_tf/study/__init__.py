"""Studies of the method on a trained base, each a table that can be measured again: `edvit study`.

Read `common.py` (the base and its samples, rows kept as they come), `scores.py` (do the cheap
scores rank like the exact one, and what do they cost), `cuts.py` (accuracy after each cut, repair
and fit, by score, residual method and heads), `clusters.py` (weights on few values: bytes over a
slow link against accuracy). Against the number of devices: `flops.py` (MACs and bytes),
`against_n.py` (the same by budgets, beside accuracies of runs; `timed.py`: milliseconds and
memory). What stands for energy: `energy.py`. Of a bundle: `tsne.py` (its features by class). Of a
recipe: `retraining.py` (averaged, fused, trained on as a whole), and `sweep.py`, which is `edvit
sweep`: several numbers of devices; both run it by `recipe_run.py`. `page.py` has what studies show
in common.
"""
