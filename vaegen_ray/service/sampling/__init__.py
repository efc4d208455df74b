"""The pool of sampler actors: coordination, generation, reading."""
