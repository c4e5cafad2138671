"""Files: atomic writes, JSON lines, tensors, judged CSVs."""
