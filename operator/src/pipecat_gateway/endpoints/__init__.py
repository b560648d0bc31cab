"""What serves each route."""
