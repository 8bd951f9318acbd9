"""The Vision Transformer: all that knows how one of its blocks is wired."""
