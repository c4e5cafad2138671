"""Records in, Plotly figures out. No torch."""
