"""What `import persona_probe as pp` offers: runs, questions to arms, trials, fits and latents, with defaults
everywhere."""
