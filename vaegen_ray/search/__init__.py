"""Adaptive search: its space, its points, and what is suggested next."""
