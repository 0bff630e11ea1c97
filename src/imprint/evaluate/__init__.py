"""What a personalizer is worth: metrics, each a definition with a direction and a version, and their statistics."""
