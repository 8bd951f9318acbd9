"""Which units of a trained model matter for a group of classes, and how the rest goes. Nothing here
trains, and nothing here knows how a model is wired: that is its architecture's
(`edvit_tf.models`).

Read `divergence.py` (KL), `slopes.py` (scores from one backward pass a class), `leave_one_out.py`
(scores from one removal a unit), `importance.py` (all scores behind one name), `stage.py` (score,
cut, repair, as a run does it).
"""
