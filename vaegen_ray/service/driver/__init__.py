"""The driver of a sweep or a search."""
