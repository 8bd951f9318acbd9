"""Which units of a trained ViT matter for a group of classes, and how the rest is cut away. Nothing
here trains.

Read `forward.py` (the ViT as plain functions with a mask on every unit), `divergence.py` (KL),
`slopes.py` (scores from one backward pass a class), `exact.py` (leave-one-out), `importance.py`
(all scores behind one name), `prune.py` (kept indices -> sliced weights -> a smaller, ordinary
ViT), `rotation.py` (directions in the place of channels), `queries.py` and `repair.py` (least
squares after a cut), `stage.py` (one stage as a run does it).
"""
