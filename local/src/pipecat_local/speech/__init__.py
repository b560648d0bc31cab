"""Real ears and a real voice without the internet: espeak-ng and pocketsphinx, within a phrase book."""
