"""``python -m session_mw`` is ``session-mw``."""

from .cli import main

if __name__ == "__main__":
    main()
