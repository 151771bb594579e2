"""One rule that ends rounds of retrieval a file; the file's name is its `type` in a recipe."""
