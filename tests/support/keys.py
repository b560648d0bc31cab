"""Every secret that tests make up: no log, event, status or audit record of a run may hold one."""

DAILY_KEY = "the-daily-api-key-of-the-tests-0123456789"
DAILY_KEY_OF_BOTS = "daily-key-of-the-stand-in-for-tests"
DAILY_KEY_OF_THE_STAND_IN = "a-key-of-at-least-thirty-two-bytes-for-hs256"
OPENAI_KEY = "sk-openai-key-of-the-stand-in"
IN_A_BODY = "of-the-user-4711"
"""In the body of a session: between its maker and its bot."""

KEYS = (DAILY_KEY, DAILY_KEY_OF_BOTS, DAILY_KEY_OF_THE_STAND_IN, OPENAI_KEY)
