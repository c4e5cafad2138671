"""The live demo."""
