"""Data sets: sets of byte images, the catalog that names them, and the loaders that read them."""
