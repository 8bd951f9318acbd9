"""Whole fleets trained at once on an accelerator, to learn what kind of fleet is worth its devices.

Read in this order: `pack` (on the host: files and a base into one folder that travels), `settings`
(what is compared), `vit` (one model in torch), `cutting` (the best cut, and cuts dealt out between
members), `stacked` (several models as one), `fitting` (joint and separate fits), `experiments`
(answers and figures), `laboratory` (all of these on one pack), and `__main__`, which runs it where
the accelerator is. But for `pack` nothing here needs TensorFlow;
what it trains comes back as weights under our names.
"""
