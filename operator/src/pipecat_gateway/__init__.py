"""The HTTP gateway: start, read and stop sessions."""
