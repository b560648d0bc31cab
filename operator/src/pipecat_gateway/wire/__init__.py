"""What callers send and are told. Pure."""
