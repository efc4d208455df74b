"""What runs on Ray: the trainable, the driver, the command line shared by all sweeps."""
