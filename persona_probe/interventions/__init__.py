"""Edits of the residual stream as values, and the persona direction with its forms."""
