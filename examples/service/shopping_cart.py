"""A shopping cart that is found again: one session of the user holds it, whichever device they use.

python examples/service/shopping_cart.py
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from session_mw import SessionService


class ShoppingCart:
    """The cart of *user_id*: the one there is, or a new one."""

    def __init__(self, sessions: SessionService, user_id: str) -> None:
        self.sessions = sessions
        carts = sessions.find_sessions(user_id, lambda session: "cart" in (session.data or {}))
        self.session_id = carts[0].session_id if carts else sessions.create_session(user_id, {"cart": []})

    def add(self, product_id: str, quantity: int, price: Decimal) -> None:
        """Put something in. Prices are decimals, and come back as decimals."""
        item = {"product_id": product_id, "quantity": quantity, "price": price}
        self.sessions.update_with(self.session_id, "cart", lambda items: [*items, item])

    def remove(self, product_id: str) -> None:
        """Take every item of a product out."""
        self.sessions.update_with(
            self.session_id, "cart", lambda items: [item for item in items if item["product_id"] != product_id]
        )

    def items(self) -> list[dict[str, Any]]:
        """What is in it."""
        data = self.sessions.get_session(self.session_id)
        return [] if data is None else data["cart"]

    def total(self) -> Decimal:
        """What it costs: computed, since two numbers that must agree will not."""
        return sum((item["quantity"] * item["price"] for item in self.items()), Decimal(0))

    def clear(self) -> None:
        """Throw it away."""
        self.sessions.destroy_session(self.session_id)


def main(sessions: SessionService) -> None:
    laptop = ShoppingCart(sessions, "ada")
    laptop.add("tea", 2, Decimal("4.10"))
    laptop.add("pot", 1, Decimal("29.90"))
    print("on the laptop:", laptop.total())

    phone = ShoppingCart(sessions, "ada")
    phone.add("cup", 4, Decimal("7.25"))
    phone.remove("pot")
    print("on the phone:", phone.total(), "and on the laptop:", laptop.total())
    print("Bob's:", ShoppingCart(sessions, "bob").total())

    phone.clear()
    print("bought; a new one:", ShoppingCart(sessions, "ada").items())


if __name__ == "__main__":
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:") as service:
        main(service)
