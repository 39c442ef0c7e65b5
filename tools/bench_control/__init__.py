"""Measures the control plane: memory, time and CPU, with many proxies that speak its protocol."""
