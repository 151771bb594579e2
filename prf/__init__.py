"""Feedback and query rewriting: one reformulator a file; the file's name is its `type` in a recipe."""
