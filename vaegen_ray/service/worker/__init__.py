"""What runs on a worker: a bundle, its attempts, the code that is shipped there."""
