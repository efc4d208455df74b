"""Estimators of what a trained VAE is worth; each opens with its equation."""
