"""The whole run, resumable. Read in this order:

run             the order of the stages
stage, member   what a stage is and what it reads; what is cut and fitted
places          where the bundle and its stages go, and where they never can
store           finished stages on disk; work_folder: whose they are, and one process at a time
description     what a run is made from: its key
checks          what ends a run
inputs, steps   the data; the base, its answers, the plan; the features and the bundle
cutting         a member's stages; fit_members: all of them, in turn or by several processes
budget          what training costs, and a rival's share of it
fusing          one answer of several
measure         the figures, from .tflite files in processes of their own
results         all that is told of a run; publish: the bundle takes its place
"""
