"""vaegen_ray: does this VAE generalise, and what would help more: more data, or more parameters, and where?"""

__version__ = "0.1.0"
