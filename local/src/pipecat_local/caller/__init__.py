"""The caller: joins with the user's token, speaks, and recognises what it hears."""
