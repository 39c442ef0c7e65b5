"""Checks, benchmarks and generators; nothing that users need."""
