"""The operator: BotSessions in, rooms and Jobs out."""
