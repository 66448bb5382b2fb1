"""The explorer finds nothing wrong; and it would: with any guard taken away it says which rule that breaks."""

from __future__ import annotations

import itertools

import pytest
from msgspec import structs

from session_mw.core import draft as drafting
from session_mw.core.account import Account
from session_mw.core.lifetime import slide
from session_mw.core.operations import Create, Outcome, Touch
from session_mw.core.state import State
from session_mw.errors import SessionNotFoundError
from session_mw.managers import CLEAR, LEAVE
from session_mw.managers import store as manager
from session_mw.managers.service import ServiceFlows
from session_mw.managers.store import StoreManager
from tests.explorer.calls import CALLS
from tests.explorer.invariants import ARRIVAL_RULES, WORLD_RULES
from tests.explorer.kinds import KINDS
from tests.explorer.search import Setting, Tally, explore
from tests.explorer.world import STARTS, Compensating, Watched

KIND = {kind.name: kind for kind in KINDS + CALLS}
ESSENTIAL = (
    *("read", "write", "write own key", "update_with", "remove all keys", "login alice", "login bob", "logout"),
    "login nobody",
    *("regenerate", "regenerate hard", "destroy", "destroy, write"),
    *("service: update", "service: extend", "service: touch", "service: regenerate, issue token"),
    *("service: issue token", "service: destroy", "service: destroy user"),
)
"""Each of the others takes the way of one of these through the manager; ``python -m tests.explorer`` runs them all."""

AT_LEAST = {"nobody": (900, 900), "anonymous": (2800, 7700), "alice": (2900, 9400), "pointer": (4400, 15500)}
"""Schedules per start, with a store that rotates in one step and one that cannot: fewer would prove less."""


@pytest.mark.parametrize("can_rotate", [True, False], ids=["rotating", "compensating"])
@pytest.mark.parametrize("start", STARTS)
def test_every_order_of_two_requests_keeps_every_rule(start, can_rotate):
    total = Tally()
    for a, b in itertools.combinations_with_replacement([KIND[name] for name in ESSENTIAL], 2):
        total.add(explore(Setting(start, can_rotate), a, b))
    assert not total.violations, total.violations[0]
    assert total.schedules >= AT_LEAST[start][not can_rotate]


def test_only_two_responses_with_a_cookie_each_can_arrive_in_reversed_order():
    logout, write, login = KIND["logout"], KIND["write"], KIND["login bob"]
    assert explore(Setting("alice"), logout, login).reversed
    assert explore(Setting("nobody"), write, write).reversed  # each begins a session
    assert not explore(Setting("alice"), logout, write).reversed
    assert not explore(Setting("alice"), logout, logout).reversed


# -- tests of the test ----------------------------------------------------------------------------------------------


def upsert(patch):
    """save() revives what is gone."""
    save = Watched.save

    def reviving(self, record, expected_version, *, payload_only=False):
        outcome = save(self, record, expected_version, payload_only=payload_only)
        if outcome is Outcome.GONE:
            self._closed.pop(record.id, None)
            self.create(record)
            return Outcome.SAVED
        return outcome

    patch.setattr(Watched, "save", reviving)


def save_any_version(patch):
    """save() does not compare versions."""
    save = Watched.save

    def careless(self, record, expected_version, *, payload_only=False):
        old = self._live.get(record.id)
        return save(self, record, expected_version if old is None else old.version, payload_only=payload_only)

    patch.setattr(Watched, "save", careless)


def rotate_any_version(patch):
    """rotate() does not compare versions."""
    rotate = Watched.rotate

    def careless(self, record, old_id, expected_version, **more):
        old = self._live.get(old_id)
        return rotate(self, record, old_id, expected_version if old is None else old.version, **more)

    patch.setattr(Watched, "rotate", careless)


def close_any_version(patch):
    """close() does not compare versions."""
    close = Watched.close

    def careless(self, id, expected_version, **more):
        old = self._live.get(id)
        return close(self, id, expected_version if old is None else old.version, **more)

    patch.setattr(Watched, "close", careless)


def leave_the_old_record(patch):
    """rotate() creates and closes nothing."""
    patch.setattr(Watched, "rotate", lambda self, record, *_, **__: self.create(record) and Outcome.SAVED)


def keep_what_was_created(patch):
    """A rotation in two steps that failed does not take back what it created."""
    delete = Watched.delete

    def half(self, id, *, expected_version=None):
        return Outcome.GONE if expected_version is None else delete(self, id, expected_version=expected_version)

    patch.setattr(Compensating, "delete", half)


def announce_before_the_end(patch):
    """A rotation in two steps does not wait for the end of the old record."""

    def hasty(self, record, old, until, successor):
        yield Create(record)
        return Outcome.SAVED

    patch.setattr(StoreManager, "_swap_in_two", hasty)


def clear_the_cookie_when_dropped(patch):
    """A request whose session had gone clears the cookie."""

    def rude(flow):
        def run(self, state, *arguments):
            verdict = yield from flow(self, state, *arguments)
            return CLEAR if state.dropped else verdict

        return run

    patch.setattr(StoreManager, "_save", rude(StoreManager._save))
    patch.setattr(StoreManager, "_replace", rude(StoreManager._replace))


def never_announce(patch):
    """New tokens are never sent."""
    patch.setattr(StoreManager, "_announce", lambda *_, **__: LEAVE)


def keep_everything_at_login(patch):
    """Another owner's login drops nothing."""
    patch.setattr(Account, "_is_stranger", lambda *_: False)


def merge_whole_storages(patch):
    """After a conflict the last writer wins with all its keys."""
    patch.setattr(drafting, "_merged", lambda self, live, *_: {name: (dict(data), {}) for name, data in live.items()})


def do_not_follow(patch):
    """Nobody follows a pointer."""
    patch.setattr(manager, "followed", lambda *_: None)


def endings_do_not_follow(patch):
    """A logout does not follow a regenerate(grace=0)."""
    patch.setattr(State, "ends", lambda _: False)


def grace_for_everyone(patch):
    """A logout leaves a pointer."""
    patch.setattr(State, "overlap", lambda _: 30)


def try_once(patch):
    """A conflict is an error."""
    patch.setattr(manager, "TRIES", 1)


def always_changed(patch):
    """Every request saves."""
    patch.setattr(State, "changed", lambda *_: True)


def forget_the_owner_seen(patch):
    """login() without a user keeps whatever owner is stored by then."""
    owner = drafting._owner

    def blind(self, base, meta):
        seen, self.base = self.base, base
        try:
            return owner(self, base, meta)
        finally:
            self.base = seen

    patch.setattr(drafting, "_owner", blind)


def closed_records_open(patch):
    """A close leaves the record as it was."""

    def idle(self, id, expected_version, **_):
        old = self._live.get(id)
        if old is None:
            return Outcome.GONE
        if old.version != expected_version:
            return Outcome.CONFLICT
        self._replace(old, structs.replace(old, version=old.version + 1))
        return Outcome.DELETED

    patch.setattr(Watched, "close", idle)


def tokens_live_on(patch):
    """Whoever has an id may open it."""
    patch.setattr(manager, "matches", lambda *_: True)


def pointers_lead_anywhere(patch):
    """A pointer is followed to a session whose token was replaced."""
    patch.setattr(manager, "leads_to", lambda *_: True)


def callers_are_told_nothing(patch):
    """A service call that came too late seems to have been carried out."""

    def quiet(self, state, live):
        yield from self._manager.commit(state, {"global": live}, state.now, self._random)

    patch.setattr(ServiceFlows, "_write", quiet)


def touch_once(patch):
    """touch() does not look where its session went."""

    def once(self, state, id):
        record = yield from self._live(state, id)
        if (yield Touch(record.id, state.now, slide(record, state.now, self._limits))) is not True:
            raise SessionNotFoundError

    patch.setattr(ServiceFlows, "touch", once)


def regenerate_once(patch):
    """regenerate() is content with the id that somebody else has just made."""

    def content(self, state, id):
        record = yield from self._live(state, id)
        yield from self._begin(state, self._adopt(state, record))
        return state.handle

    patch.setattr(ServiceFlows, "regenerate", content)


MUTANTS = [
    (upsert, "alice", True, "logout", "write", "stays_ended"),
    (save_any_version, "anonymous", True, "write", "write own key", "keeps_every_update"),
    (save_any_version, "anonymous", True, "update_with", "update_with", "keeps_every_update"),
    (rotate_any_version, "alice", True, "logout", "write", "keeps_every_update"),
    (close_any_version, "anonymous", False, "regenerate", "write", "keeps_every_update"),
    (leave_the_old_record, "alice", True, "logout", "read", "stays_ended"),
    (leave_the_old_record, "alice", True, "login alice", "read", "no_token_before_the_end"),
    (keep_what_was_created, "alice", False, "regenerate", "logout", "no_orphan"),
    (announce_before_the_end, "alice", False, "regenerate", "write", "no_token_before_the_end"),
    (clear_the_cookie_when_dropped, "alice", True, "logout", "write", "no_cookie_after_the_end"),
    (clear_the_cookie_when_dropped, "alice", True, "logout", "write", "no_good_cookie_lost"),
    (never_announce, "anonymous", True, "login alice", "read", "no_orphan"),
    (never_announce, "anonymous", True, "login alice", "read", "sends_the_token_it_began"),
    (keep_everything_at_login, "alice", True, "login bob", "read", "no_former_owners_data"),
    (merge_whole_storages, "anonymous", True, "write", "write own key", "keeps_every_update"),
    (do_not_follow, "anonymous", True, "regenerate", "write", "tokens_open_what_they_should"),
    (endings_do_not_follow, "alice", True, "logout", "regenerate hard", "logout_is_final"),
    (grace_for_everyone, "alice", True, "logout", "read", "tokens_open_what_they_should"),
    (try_once, "anonymous", True, "write", "write", "ends_well"),
    (always_changed, "anonymous", True, "read", "read", "reading_writes_nothing"),
    (forget_the_owner_seen, "pointer", True, "login nobody", "logout", "no_former_owners_data"),
    (closed_records_open, "alice", True, "destroy", "read", "stays_ended"),
    (upsert, "alice", True, "service: destroy", "write", "stays_ended"),
    (save_any_version, "alice", True, "service: update", "write own key", "keeps_every_update"),
    (save_any_version, "alice", True, "service: extend", "service: extend", "keeps_every_update"),
    (save_any_version, "alice", True, "service: issue token", "write", "tokens_open_what_they_should"),
    (tokens_live_on, "alice", True, "service: issue token", "read", "tokens_open_what_they_should"),
    (pointers_lead_anywhere, "alice", True, "regenerate", "service: issue token", "tokens_open_what_they_should"),
    (callers_are_told_nothing, "alice", True, "service: update", "logout", "answers_are_true"),
    (touch_once, "alice", True, "service: touch", "regenerate", "answers_are_true"),
    (regenerate_once, "alice", True, "service: regenerate", "regenerate", "tokens_open_what_they_should"),
    (endings_do_not_follow, "alice", True, "service: destroy", "regenerate hard", "answers_are_true"),
    (keep_what_was_created, "alice", False, "service: regenerate", "logout", "keeps_every_update"),
]


@pytest.mark.parametrize(
    ("mutant", "start", "can_rotate", "a", "b", "rule"), MUTANTS, ids=[f"{m[0].__name__}-{m[5]}" for m in MUTANTS]
)
def test_a_missing_guard_is_found(monkeypatch, mutant, start, can_rotate, a, b, rule):
    setting = Setting(start, can_rotate)
    assert not explore(setting, KIND[a], KIND[b]).violations
    mutant(monkeypatch)
    assert rule in {violation.rule for violation in explore(setting, KIND[a], KIND[b]).violations}


def test_every_rule_has_a_mutant_that_breaks_it():
    assert {rule.__name__ for rule in (*WORLD_RULES, *ARRIVAL_RULES)} == {mutant[5] for mutant in MUTANTS}
