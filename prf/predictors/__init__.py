"""One query-performance predictor a file; the file's name is its `type` in a recipe."""
