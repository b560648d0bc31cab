"""The phrase book: what the caller asks, what the bot answers, and what would be wrong.

Wording, voices and speeds were chosen by measurement: each question is recognised and judged complete by the
unmodified Smart Turn, each answer and near miss is heard as itself. Run ``python -m pipecat_local.speech.measure``
after every change here.
"""

from dataclasses import dataclass
from typing import Final

from pipecat_local.speech.recogniser import words_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A question, its answer, and sentences that differ from the answer in one word."""

    question: str
    answer: str
    near_misses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """Everything that is said in a call."""

    greeting: str
    goodbye: str
    sorry: str
    entries: tuple[Entry, ...]

    def answer_to(self, question: str) -> str:
        """What the bot says. Case and punctuation of the question do not matter."""
        asked = words_of(question)
        return next((e.answer for e in self.entries if words_of(e.question) == asked), self.sorry)

    def heard_by_bot(self) -> tuple[str, ...]:
        """What a caller may say."""
        return tuple(entry.question for entry in self.entries)

    def heard_by_caller(self) -> tuple[str, ...]:
        """What a bot may say, and what it must not be taken for."""
        near_misses = (near_miss for entry in self.entries for near_miss in entry.near_misses)
        return (self.greeting, self.goodbye, self.sorry, *(e.answer for e in self.entries), *near_misses)


BOOK: Final = Book(
    greeting="Hello and welcome to the garden shop.",
    goodbye="Our time is up. Have a nice day.",
    sorry="I am sorry, I did not understand.",
    entries=(
        Entry(
            "Where are you located?",
            "The shop is next to the river.",
            ("The shop is next to the station.", "The shop is next to the museum."),
        ),
        Entry(
            "Who is the owner?",
            "The owner is my grandmother.",
            ("The owner is my neighbour.", "The owner is my teacher."),
        ),
        Entry(
            "Is there a parking place?",
            "You can park behind the office.",
            ("You can park behind the church.", "You can park behind the market."),
        ),
        Entry(
            "Do you have a garden map?",
            "The map is on the table.",
            ("The map is on the window.", "The map is on the counter."),
        ),
        Entry(
            "Who built the old house?",
            "It was built by a famous doctor.",
            ("It was built by a famous captain.", "It was built by a famous painter."),
        ),
        Entry(
            "How old is the tree?",
            "The tree is a hundred years old.",
            ("The tree is a thousand years old.", "The tree is a million years old."),
        ),
        Entry(
            "Where is the railway station?",
            "The station is behind the bridge.",
            ("The station is behind the church.", "The station is behind the market."),
        ),
        Entry(
            "How long is the wait?",
            "You will wait about twenty minutes.",
            ("You will wait about thirty minutes.", "You will wait about forty minutes."),
        ),
        Entry(
            "Do I need a ticket?",
            "Children do not need a ticket.",
            ("Students do not need a ticket.", "Teachers do not need a ticket."),
        ),
        Entry(
            "Is breakfast included?",
            "The price is seven dollars.",
            ("The price is twenty dollars.", "The price is eleven dollars."),
        ),
        Entry(
            "Which bus should I take?",
            "The yellow bus stops right here.",
            ("The purple bus stops right here.", "The silver bus stops right here."),
        ),
        Entry(
            "Can I book a table for tonight?",
            "We have a table at seven o'clock.",
            ("We have a table at nine o'clock.", "We have a table at ten o'clock."),
        ),
        Entry(
            "How far is the beach?",
            "The beach is two miles away.",
            ("The beach is ten miles away.", "The beach is five miles away."),
        ),
    ),
)

UNLISTED: Final = ("Do you speak French?", "Please book a flight to Paris.", "What time is it?")
"""What a caller may say that is not in the book: it must not be taken for anything that is."""
