"""Accuracy of a bundle, measured on its .tflite files (`evaluate.py`)."""
