"""A voice, ears and a phrase book, all offline: espeak-ng speaks, pocketsphinx listens."""

from pipecat_local.speech.recogniser import Recogniser
from pipecat_local.speech.voice import Voice, speak

__all__ = ["Recogniser", "Voice", "speak"]
