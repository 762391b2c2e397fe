"""What the doctor found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "doubtful", "wrong"]

MARKS = {"good": "✓", "doubtful": "!", "wrong": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    about: str
    state: State
    says: str

    def __str__(self) -> str:
        return f"{MARKS[self.state]} {self.about}: {self.says}"
