"""What may be wrong with an archive."""

from domain.model.errors import Corrupt

PROBLEMS_NAMED = 20


class Damaged(Corrupt):
    """An archive is not what was written, or lacks something.

    Attributes:
        problems: a sentence for each thing that is wrong, as far as they were looked for.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
