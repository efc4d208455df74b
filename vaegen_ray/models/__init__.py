"""Networks, likelihoods and the VAE, all of them for M members at once."""
