"""How far the changes of an assigned partition are done."""


class Progress:
    """What of one partition was delivered, and what of it is done.

    Changes are done in any order; only what has nothing open in front of it may be committed.

    Attributes:
        session: in which offsets stand for the same changes.
    """

    def __init__(self, session: int) -> None:
        self.session = session
        self._open: dict[int, None] = {}
        self._next: int | None = None
        self._committed: int | None = None

    def __len__(self) -> int:
        """How many changes are not done."""
        return len(self._open)

    def deliver(self, offset: int) -> None:
        """The change at this offset goes to the applier; offsets grow."""
        self._open[offset] = None
        self._next = offset + 1

    def complete(self, offset: int) -> None:
        """The change at this offset is done; again changes nothing."""
        self._open.pop(offset, None)

    @property
    def committable(self) -> int | None:
        """The offset to go on from after a restart, or None if it was committed already."""
        offset = next(iter(self._open), self._next)
        return None if offset == self._committed else offset

    def committed(self, offset: int) -> None:
        """The broker has kept this offset."""
        self._committed = offset
