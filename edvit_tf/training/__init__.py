"""Everything that learns.

Read `batches.py` (which samples an epoch sees, and their targets), `augment.py` and
`randaugment.py` (how pictures and sound are varied), `optimizers.py` (the step and its rate),
`train.py` (fit, predict), `fuse.py` (the tower MLP over the sub-models' features, and averaging as
its baseline), `joint.py` (all of them together), `calibrate.py` (one temperature).
"""
