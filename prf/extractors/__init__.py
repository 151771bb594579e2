"""One extractor of features of documents a file; the file's name is its `type` in a recipe."""
