"""Work that is done elsewhere: by processes of this machine (loky), or by nodes of a Ray cluster.

The rooms above say what is to be done, as tasks with declared inputs, outputs and resources
(`engine.py`); the two engines (`local.py`, `on_ray.py`) run the same pieces (`piece.py`), and what
these tell is heard here (`heard.py`).
"""
