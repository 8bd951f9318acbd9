"""What runs of ours found each kind of fleet to be worth: said where a run did not measure it."""

# Of each kind of fleet, by runs whose figures stand in the documents named.
KNOWN = {
    "copies": "Copies had 0.9 points more than their one model on CIFAR-10, 2.9 on Caltech-101, "
    "for no training of their own (docs/figures/accuracy.md)",
    "classes": "On CIFAR-10, MNIST and Speech Commands it was level with one model of equal "
    "training (docs/figures/accuracy.md)",
    "joint": "On CIFAR-10 it lost to one model with views where it began from cuts, and was level "
    "with copies where it began from the trained model; on Caltech-101 it had less than they "
    "(docs/lab_book/training.md)",
}
