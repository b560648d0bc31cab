"""BotSessions: made from requests, watched, told of."""
