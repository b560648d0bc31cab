"""The Daily stand-in: the REST API with its limits, and rooms that relay sound, messages and transcriptions."""
