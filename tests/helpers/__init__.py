"""What several tests use: tiny models, made-up records, attacks."""
