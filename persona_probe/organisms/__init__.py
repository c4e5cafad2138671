"""Model organisms: LoRA training, the planted toy, and planted worlds whose right verdict is known."""
