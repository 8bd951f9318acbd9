"""Everything that learns. Read `batches.py` (which samples, how varied), `randaugment.py`
(keras-cv's variations), `train.py` (fit, predict), `fuse.py` (the tower MLP over the sub-models'
features, and averaging as its baseline), `joint.py` (all of them together)."""
