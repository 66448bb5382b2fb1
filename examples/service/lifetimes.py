"""Short lifetimes for what is sensitive, long ones for convenience, and both at once.

python examples/service/lifetimes.py
"""

from __future__ import annotations

from datetime import timedelta

from session_mw import SessionExpiredError, SessionService
from session_mw.testing import Clock

MINUTE, HOUR, DAY = 60, 3600, 86400


def main(clock: Clock) -> None:
    bank = SessionService.from_url("memory:", profile="BANKING", clock=clock)  # 15 minutes idle, 8 hours in all
    social = SessionService.from_url("memory:", profile="SOCIAL", clock=clock)  # a day idle, 30 days in all
    account, feed = bank.create_session("ada"), social.create_session("ada")
    remembered = social.create_session("ada", lifetime=timedelta(days=14))  # this one session: "remember me"

    clock.advance(14 * MINUTE)
    print("after 14 minutes, bank:", bank.validate_session(account), "social:", social.validate_session(feed))
    bank.touch_session(account)  # used: fifteen more minutes
    clock.advance(15 * MINUTE)
    print("left alone for 15 minutes, bank:", bank.validate_session(account), "social:", social.validate_session(feed))

    transfer = bank.create_session("ada", lifetime=2 * MINUTE)
    bank.extend_session(transfer, MINUTE)  # "I need a little longer"
    clock.advance(3 * MINUTE)
    try:
        bank.extend_session(transfer, HOUR)
    except SessionExpiredError:
        print("too late: nothing revives a session")

    account = bank.create_session("ada")
    over = bank.extend_session(account, 30 * DAY) - int(clock())
    print("never past the absolute limit:", over // HOUR, "hours")

    clock.advance(2 * DAY)
    print("after 2 days, social:", social.validate_session(feed), "remembered:", social.validate_session(remembered))


if __name__ == "__main__":
    main(Clock())  # a clock turned by hand, so that this ends before you do
