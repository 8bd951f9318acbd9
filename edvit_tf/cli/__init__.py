"""The command line `edvit` and that of every recipe."""
