"""Planning: who computes what, from cost figures alone (no TensorFlow, seconds at most).

Read in this order: partition.py (classes -> balanced groups), cost.py (parameters, MACs and bytes of a config),
devices.py (devices.toml -> what each device offers), assign.py (sub-models -> devices, Algorithm 3 or MILP),
plan.py (Algorithm 1: heads go until budget and devices hold).
"""
