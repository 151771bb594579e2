"""The core: text in, ranked documents out."""
