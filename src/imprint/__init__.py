"""Imprint: a memory inside the model for every user of a language model (MiLP, arXiv 2404.03565)."""

__version__ = "0.1.0"
