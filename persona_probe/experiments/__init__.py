"""Whole experiments: settings, stages, records."""
