"""Bloomery: from raw text to a trained, adapted, evaluated and served Transformer."""

__version__ = "0.1.0"
