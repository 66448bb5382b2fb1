"""The kit: how many commands a call costs, and that no other user's sessions make it cost more.

What a command is, the store's test decides: a statement, a request to a server. It should be what takes the time.
"""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from collections.abc import Callable

from ..core.operations import (
    Create,
    Delete,
    ListUser,
    Load,
    Operation,
    Save,
    Touch,
)
from .face import Face, Faces, case
from .hooks import Hooks
from .samples import NOW, a_closed, following, new_id, new_record

__all__ = ["CostCases"]


class CostCases(Faces):
    """A request waits for its store once to read and once to write."""

    @case(needs=("count",))
    def test_a_call_costs_what_it_may(self, face: Face) -> None:
        cost = self._meter(face)
        record, closed = new_record(), a_closed(face)
        face.ask(Create(record))
        for operation in (Load(record.id), Load(new_id()), Load(closed.id)):
            self._assert_cost(cost(operation), "load")
        changed = following(record, payload=b"new")
        self._assert_cost(cost(Save(changed, 1)), "save")
        self._assert_cost(cost(Save(following(changed), 2, payload_only=True)), "save")
        self._assert_cost(cost(Touch(record.id, NOW + 1, NOW + 9000)), "touch")
        self._assert_cost(cost(Touch(new_id(), NOW + 1, NOW + 9000)), "touch")

    @case(needs=("count", "index"))
    def test_listing_costs_the_same_however_many_there_are(self, face: Face) -> None:
        cost = self._meter(face)
        mine = [new_record() for _ in range(3)]
        for record in mine:
            face.ask(Create(record))
        alone = cost(ListUser("alice"))
        self._assert_cost(alone, "list_user")
        for number in range(40):
            face.ask(Create(new_record(user_id=f"user {number}")))
        among = cost(ListUser("alice"))
        assert among == alone, f"list_user cost {alone} commands, and {among} among 40 users more"
        for _ in range(40):
            face.ask(Create(new_record()))
        self._assert_cost(cost(ListUser("alice")), "list_user")
        nobody = cost(ListUser("nobody"))
        assert nobody <= self.costs["list_user"], f"list_user cost {nobody} commands to find nothing"
        for record in mine:
            face.ask(Delete(record.id))

    def _meter(self, face: Face) -> Callable[[Operation], int]:
        """A function that asks *face* an operation and says how many commands that cost."""
        sent = 0

        def tell() -> None:
            nonlocal sent
            sent += 1

        def total() -> int:
            return sent if told else self.commands_sent(face.store)

        told = type(self).commands_sent is Hooks.commands_sent
        if told:
            self.before_each_command(face.store, tell)

        def cost(operation: Operation) -> int:
            before = total()
            face.ask(operation)
            return total() - before

        return cost

    def _assert_cost(self, cost: int, method: str) -> None:
        most = self.costs[method]
        assert 1 <= cost <= most, f"{method} cost {cost} commands; it must cost at least 1 and at most {most}"
