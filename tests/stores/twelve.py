"""Twelve documents and four queries that every store must rank alike; imported in several environments."""

from typing import Final

DOCUMENTS: Final = {
    "loop": "A for loop iterates over the items of a sequence, in the order in which they appear.",
    "comprehension": "A list comprehension builds a list from a loop and a condition in one expression.",
    "generator": "A generator yields one value at a time; a loop over a generator keeps no list in memory.",
    "walrus": "The walrus operator binds a name to a value inside an expression.",
    "with": "The with statement enters a context manager, and leaves it when the block ends.",
    "file": "Opening a file in a with statement closes the file when the block ends, even after an exception.",
    "exception": "An exception handler names the exceptions it catches; its finally block runs after an exception.",
    "decorator": "A decorator takes a function and returns another function in its place.",
    "closure": "A closure is a function that remembers a value of the function around it.",
    "slice": "A slice of a list copies the items from a start to an end.",
    "import": "An import statement runs a module once and binds its name.",
    "coroutine": "A coroutine is a function that awaits; an event loop runs many coroutines in one thread.",
}
# The first three by local/bm25: more of the query's terms, more often, in a shorter text. A document without any of the
# terms is not found.
FIRST: Final = {
    "Which function remembers a value?": ["closure", "decorator", "walrus"],
    "binding a name to a value": ["walrus", "import", "closure"],
    "what runs coroutines in a thread": ["coroutine", "import", "exception"],
    "closing a file after an exception": ["file", "exception"],
}
NAME_OF: Final = {text: name for name, text in DOCUMENTS.items()}
