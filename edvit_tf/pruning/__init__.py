"""Which units of a trained ViT matter for a group of classes, and how the rest is cut away.

Read `forward.py` (the ViT as a plain function with a mask on every unit), `importance.py` (KL scores of units),
`prune.py` (kept indices -> sliced weights -> a smaller, ordinary ViT). Nothing here trains.
"""
