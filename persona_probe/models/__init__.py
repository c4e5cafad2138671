"""Where weights come from, and models whose numbers were compared with plain Hugging Face."""
