"""A bundle and its files on this device: opened, verified, decoded, run."""
