"""What a session costs, measured: ``make bench`` (docs/scale.md tells what the figures mean)."""
