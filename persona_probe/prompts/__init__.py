"""Conversations in, token rows and batches out."""
