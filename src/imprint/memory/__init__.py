"""Memories: their configuration, their weights, how one is trained, and the store they are kept in."""
