"""The OpenAI stand-in: hears with pocketsphinx, answers from the phrase book, speaks with espeak-ng."""
