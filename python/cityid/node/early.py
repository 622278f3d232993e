"""What arrives for a height before this node has begun it.

Other cities may be a step ahead, so messages and proposals of the next height, and of the one after it, are kept until
it starts. They are not verified yet: each sender has a bounded share, and what is beyond it is dropped; the engines of
the others repeat themselves.
"""

from cityid.node.messages import Proposal


class Early:
    """Consensus messages and proposals, by height and sender."""

    def __init__(self) -> None:
        self.max_messages = 0  # of one sender for one height
        self._messages: dict[tuple[int, str], list[bytes]] = {}
        self._proposals: dict[tuple[int, str], Proposal] = {}

    def keep_message(self, height: int, sender: str, message: bytes) -> None:
        """A consensus message, if its sender has room."""
        found = self._messages.setdefault((height, sender), [])
        if len(found) < self.max_messages:
            found.append(message)

    def keep_proposal(self, sender: str, proposal: Proposal) -> None:
        """The newest proposal of a sender for a height."""
        self._proposals[proposal.height, sender] = proposal

    def has(self, height: int) -> bool:
        """Whether others have begun this height."""
        return any(at == height for at, _ in self._messages)

    def take_messages(self, height: int) -> list[bytes]:
        """The messages of a height that starts, by sender."""
        keys = sorted(key for key in self._messages if key[0] == height)
        return [message for key in keys for message in self._messages.pop(key)]

    def take_proposals(self, height: int) -> list[tuple[str, Proposal]]:
        """The proposals of a height, each with its sender."""
        keys = sorted(key for key in self._proposals if key[0] == height)
        return [(key[1], self._proposals.pop(key)) for key in keys]

    def forget_below(self, height: int) -> None:
        """Drop what is for heights that are over."""
        self._messages = {key: found for key, found in self._messages.items() if key[0] >= height}
        self._proposals = {key: found for key, found in self._proposals.items() if key[0] >= height}
