"""API keys: what each may, where they are kept, how often each may start."""
