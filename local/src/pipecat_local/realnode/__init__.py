"""A node with a real kubelet and real containers, in namespaces of its own: Linux, as root, no Docker."""
