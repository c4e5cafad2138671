"""Arms, scores, statistics, controls and the search."""
