"""One language model back end a file; the file's name is its `type` in a recipe."""
