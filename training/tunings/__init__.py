"""What of a model is trained, one component a file; the file's name is its `type` in a recipe."""
