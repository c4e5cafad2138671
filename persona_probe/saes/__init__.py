"""Sparse autoencoders: files, training, latents of base against tuned, causal screens."""
