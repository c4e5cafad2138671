"""Model organisms: LoRA training and the planted toy."""
