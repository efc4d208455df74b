"""From a list of trials to bundles, and the run of one bundle; no Ray."""
