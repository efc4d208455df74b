"""Diffusion models (EDM, Karras et al. 2022): method, networks, training, samples."""
