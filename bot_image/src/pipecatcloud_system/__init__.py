"""What Pipecat Cloud's base image gives a bot for HTTP routes of its own: ``from pipecatcloud_system import app``.

The bot's host serves ``app`` where the bot's file has imported this.
"""

from fastapi import FastAPI

app = FastAPI()
