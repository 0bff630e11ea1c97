"""The base model: where its sites are, how text becomes examples, how any set of its weights is trained and scored."""
