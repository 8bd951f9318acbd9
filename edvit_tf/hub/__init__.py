"""The Hugging Face hub: pretrained bases from it, bundles to it and from it.

Read client.py (who asks, and what its errors mean), offers.py and checkpoint.py (bases), then
card.py, push.py and pull.py (bundles). No TensorFlow; huggingface-hub alone, imported when it is
needed.
"""
