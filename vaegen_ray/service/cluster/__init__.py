"""Ray itself: how it is started, joined and left."""
