"""The phrase book: what the caller asks, what the bot answers, and what would be wrong.

Voices and wording were chosen by ``python -m pipecat_local.speech.measure``: run it after every change here.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    """A question, its answer, and an answer that differs from it in one word."""

    question: str
    answer: str
    near_miss: str


@dataclass(frozen=True, slots=True)
class Book:
    """Everything that is said in a call."""

    greeting: str
    goodbye: str
    sorry: str
    entries: tuple[Entry, ...]

    def answer_to(self, question: str) -> str:
        """What the bot says."""
        return next((e.answer for e in self.entries if e.question == question), self.sorry)

    def heard_by_bot(self) -> tuple[str, ...]:
        """What a caller may say."""
        return tuple(entry.question for entry in self.entries)

    def heard_by_caller(self) -> tuple[str, ...]:
        """What a bot may say, and what it must not be taken for."""
        said = (self.greeting, self.goodbye, self.sorry)
        return (*said, *(e.answer for e in self.entries), *(e.near_miss for e in self.entries))


BOOK: Final = Book(
    greeting="Hello and welcome to the garden shop.",
    goodbye="Our time is up. Goodbye.",
    sorry="I am sorry, I did not understand.",
    entries=(
        Entry("What time do you open?", "We open at nine in the morning.", "We open at five in the morning."),
        Entry("Where is your shop?", "The shop is next to the river.", "The shop is next to the station."),
        Entry("How much is a ticket?", "A ticket costs seven dollars.", "A ticket costs twenty dollars."),
        Entry("Do you sell coffee?", "We sell coffee and sandwiches.", "We sell coffee and newspapers."),
        Entry("Who is the owner?", "The owner is my grandmother.", "The owner is my neighbour."),
        Entry("Is there a parking place?", "You can park behind the house.", "You can park behind the church."),
        Entry("Do you have a garden map?", "The map is on the table.", "The map is on the window."),
        Entry("Who built the old house?", "It was built by a famous doctor.", "It was built by a famous captain."),
        Entry("How old is the tree?", "The tree is a hundred years old.", "The tree is a thousand years old."),
        Entry(
            "Where is the railway station?", "The station is behind the bridge.", "The station is behind the church."
        ),
    ),
)
