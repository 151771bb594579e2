"""One writer of texts for queries a file; the file's name is its `type` in a recipe."""
