"""Estimators of the persona direction, and what they are fitted on."""
