"""Real Kubernetes on this machine, and stand-ins for Daily, OpenAI and a caller."""
