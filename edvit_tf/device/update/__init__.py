"""Versions of a bundle on this device: installed, tried out, switched to, taken back."""
