"""Training data, one component a file; the file's name is its `type` in a recipe."""
