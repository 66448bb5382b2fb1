"""The history of a conversation in a session: messages are appended from many places at once, and none is lost.

python examples/service/conversation.py
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from session_mw import SessionService

Message = dict[str, Any]


class Conversation:
    """A conversation of *user_id*; the latest *keep* messages of it."""

    def __init__(self, sessions: SessionService, user_id: str, *, keep: int = 1000) -> None:
        self.sessions = sessions
        self.session_id = sessions.create_session(user_id, {"messages": []})
        self.keep = keep

    def add(self, role: str, content: str) -> int:
        """Append a message; how many there are now."""
        message = {"role": role, "content": content, "timestamp": time.time()}

        def append(messages: list[Message]) -> list[Message]:  # again, on the newer list, if somebody was faster
            return [*messages, message][-self.keep :]

        return len(self.sessions.update_with(self.session_id, "messages", append, []))

    def history(self) -> list[Message]:
        """Every message that is kept, oldest first; nothing once the conversation is over."""
        data = self.sessions.get_session(self.session_id)
        return [] if data is None else data["messages"]

    def clear(self) -> bool:
        """End the conversation."""
        return self.sessions.destroy_session(self.session_id)


def main(sessions: SessionService) -> None:
    conversation = Conversation(sessions, "ada")
    conversation.add("user", "Hello!")
    conversation.add("assistant", "Hi! How can I help?")
    conversation.add("user", "What is the weather?")
    for message in conversation.history():
        print(f"{message['role']}: {message['content']}")

    def tool(number: int) -> None:
        for step in range(20):
            conversation.add("tool", f"tool {number}, step {step}")

    tools = [threading.Thread(target=tool, args=(number,)) for number in range(4)]
    for thread in tools:
        thread.start()
    for thread in tools:
        thread.join()
    print("after four tools at once:", len(conversation.history()), "messages")

    print("over:", conversation.clear(), len(conversation.history()))


if __name__ == "__main__":
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:") as service:
        main(service)
