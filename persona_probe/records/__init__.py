"""What a run leaves behind, as types without torch."""
