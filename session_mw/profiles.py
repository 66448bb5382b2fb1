"""Profiles: times for sessions as published rules ask for them, with the place where each rule stands.

A profile is a value, and yours is as good as these. How it meets explicit settings is ``config``'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigurationError
from .settings import KINDS

__all__ = [
    "BANKING",
    "DEVELOPMENT",
    "NIST_AAL1",
    "NIST_AAL2",
    "NIST_AAL3",
    "PROFILES",
    "SOCIAL",
    "Profile",
    "check_times",
]


def check_times(times: Mapping[str, Any], whose: str = "") -> None:
    """Raise ``ConfigurationError`` when the times (seconds) among *times* contradict each other."""
    idle, absolute, touch = (times.get(name) for name in ("idle_timeout", "absolute_timeout", "touch_interval"))
    if idle and absolute and idle > absolute:
        raise ConfigurationError(f"idle_timeout ({idle}){whose} is longer than absolute_timeout ({absolute})")
    if touch and idle and touch >= idle:  # a session in use would end, its use never written down
        raise ConfigurationError(f"touch_interval ({touch}){whose} must be shorter than idle_timeout ({idle})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Times somebody with authority asks for, in seconds; ``None`` leaves a setting at its default.

    ``relaxed`` loosens what plain http on a developer's machine cannot keep: ``cookie_secure="auto"``, a cookie name
    without ``__Host-``, short secrets. Raises ``ConfigurationError`` for times that are none or contradict each other.
    """

    name: str
    authority: str
    idle_timeout: int | None = None
    absolute_timeout: int | None = None
    touch_interval: int | None = None
    relaxed: bool = False

    def __post_init__(self) -> None:
        for name, value in self.times.items():
            object.__setattr__(self, name, KINDS[name].check(f"{name} of profile {self.name}", value))
        check_times(self.times, f" of profile {self.name}")

    @classmethod
    def of(cls, value: Any) -> Profile:
        """The profile *value* is or names, in any case. Raises ``ConfigurationError`` listing the names."""
        profile = PROFILES.get(value.upper().replace("-", "_")) if isinstance(value, str) else value
        if not isinstance(profile, Profile):
            raise ConfigurationError(f"profile must be a Profile or one of {', '.join(PROFILES)}")
        return profile

    @property
    def times(self) -> dict[str, int]:
        """The times this profile names."""
        times = {name: getattr(self, name) for name in ("idle_timeout", "absolute_timeout", "touch_interval")}
        return {name: value for name, value in times.items() if value is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """What this profile puts in place of defaults."""
        return {**self.times, **({"cookie_secure": "auto"} if self.relaxed else {})}


_MINUTE, _HOUR, _DAY = 60, 3600, 86400

BANKING = Profile(
    name="BANKING",
    authority="idle: PCI DSS 4.0.1, 8.2.8; absolute: OWASP Session Management Cheat Sheet, 4 to 8 hours",
    idle_timeout=15 * _MINUTE,
    absolute_timeout=8 * _HOUR,
)
SOCIAL = Profile(
    name="SOCIAL",
    authority="idle: a day, custom of the field; absolute: NIST SP 800-63B-4, 2.1.3 (AAL1, 30 days)",
    idle_timeout=_DAY,
    absolute_timeout=30 * _DAY,
)
NIST_AAL1 = Profile(
    name="NIST_AAL1",
    authority="NIST SP 800-63B-4, 2.1.3: overall SHOULD be at most 30 days; an inactivity limit is optional",
    absolute_timeout=30 * _DAY,
)
NIST_AAL2 = Profile(
    name="NIST_AAL2",
    authority="NIST SP 800-63B-4, 2.2.3: overall SHOULD be at most 24 hours, inactivity SHOULD be at most 1 hour",
    idle_timeout=_HOUR,
    absolute_timeout=24 * _HOUR,
)
NIST_AAL3 = Profile(
    name="NIST_AAL3",
    authority="NIST SP 800-63B-4, 2.3.3: overall SHALL be at most 12 hours, inactivity SHOULD be at most 15 minutes",
    idle_timeout=15 * _MINUTE,
    absolute_timeout=12 * _HOUR,
)
DEVELOPMENT = Profile(name="DEVELOPMENT", authority="none: never in production", relaxed=True)

PROFILES: Mapping[str, Profile] = {
    profile.name: profile for profile in (BANKING, SOCIAL, NIST_AAL1, NIST_AAL2, NIST_AAL3, DEVELOPMENT)
}
