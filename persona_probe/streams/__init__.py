"""Reading the residual stream, and continuing a clean run from the middle."""
