"""Diffusion models (EDM, Karras et al. 2022): the method; networks are passed in."""
