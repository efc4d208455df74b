"""Bundles of trials: how they are packed, what they cost, and how one is trained and evaluated."""
