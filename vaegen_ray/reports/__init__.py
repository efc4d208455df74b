"""Figures and verdicts on claims from a storage, ready to print."""
