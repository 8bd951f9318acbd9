"""Everything that learns. Read `batches.py` (which samples, how varied), `train.py` (fit, predict), `fuse.py` (the
tower MLP over the sub-models' features, and averaging as its baseline)."""
