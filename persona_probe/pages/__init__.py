"""Records in, self-contained HTML pages out. No torch."""
