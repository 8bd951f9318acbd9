"""Everything that learns.

Read `batches.py` (which samples an epoch sees, and their targets), `augment.py` and
`randaugment.py` (how pictures and sound are varied), `optimizers.py` (the step and its rate),
`trainer.py` (the model that a fit trains), `train.py` (fit, predict), `backend.py` and
`side_by_side.py` (the same by JAX), `fuse.py` (the tower MLP over the sub-models' features, and
averaging as its baseline), `stacks.py` and `steps.py` (several models' variables, and a loop with
checkpoints),
`joint.py` (sub-models and tower together), `together.py` (all-class members together),
`calibrate.py` (one temperature), `floor.py` (a linear classifier, which all have to beat).
"""
