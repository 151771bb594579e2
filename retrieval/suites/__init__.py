"""Suites of tests, one a file."""
