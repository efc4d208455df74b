"""The live web page over a storage: what runs, its figure as it grows, curves, tables, failures, sampler pools."""
