"""Planning: who computes what, from cost figures alone (no TensorFlow, seconds at most).

Read in this order: partition.py (classes -> balanced groups), cost.py (parameters, MACs and bytes
of a config), devices.py (devices.toml -> what each device offers), problem.py (what fits on a
device), greedy.py (Algorithm 3), optimal.py (MILP), explain.py (why nothing fits), assign.py
(sub-models -> devices by either), plan.py (Algorithm 1: heads go until budget and devices hold).
"""
