"""What every request passes first: may it, from which page, and how much may it take up."""
