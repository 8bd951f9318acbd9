"""Planning: who computes what, from cost figures alone (no TensorFlow, seconds at most).

What a model costs is its architecture's to say (`edvit_tf.models`). Read in this order:
partition.py (classes -> balanced groups), boards.py (published watts and speeds of Raspberry Pis),
devices.py (devices.toml -> what each device offers), placement.py (what fits on a device, and
Algorithm 3), energy.py (joules of an answer, and Eq. 1 in joules), optimal.py (MILP), explain.py
(why nothing fits), assign.py (sub-models -> devices by either), narrow.py (shares that go), plan.py
(what a plan is, and Algorithm 1: shares go until budget and devices hold).
"""
