"""The bot's host: runs one bot(runner_args) in one session."""
