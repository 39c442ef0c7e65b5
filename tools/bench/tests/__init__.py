"""Tests of the bench's own arithmetic and of the configurations that it writes."""
