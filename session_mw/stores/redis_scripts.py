"""The scripts that run on the server: each is one atomic step.

Decided here: what one call changes. A script is given its record's key; the user index it finds by itself, from the
owner in the record's head, when it is given the beginning of such keys. A Cluster keeps the two on different nodes:
there the beginning is empty and the index is a call of its own (``ENLIST``, ``ZREM``).

Answers: 0 gone, 1 conflict, 2 done. Versions are compared as bytes, because Lua's numbers end at 2**53. All clocks
here are the server's own, and only ever compared with what the same clock said before. What needs memory is written
first: a full server refuses a script by its first write, and would let the later ones pass.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from .redis_layout import MARGIN, MAX_TTL

__all__ = ["CLOSE", "COUNT", "CREATE", "DELETE", "DELETE_USER", "ENLIST", "LIST", "PURGE", "ROTATE", "SAVE",
           "SAVE_PAYLOAD", "SCRIPTS", "STATS", "TOUCH", "Script"]  # fmt: skip


class Script(NamedTuple):
    """A script and the SHA-1 by which the server knows it."""

    source: str
    sha: str

    def call(self, keys: tuple[str, ...], *arguments: Any) -> tuple[Any, ...]:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


SCRIPTS: dict[str, str] = {}
"""SHA-1 -> source."""


def _script(*parts: str) -> Script:
    source = "\n".join(part.strip() for part in parts)
    script = Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
    SCRIPTS[script.sha] = source
    return script


_HEAD = """
local function head(key) return redis.call('GETRANGE', key, 0, 26) end
local function live(h) return #h == 27 and string.byte(h) == 1 end
local function refusal(h) return live(h) and 1 or 0 end
local function owner(key, h)
  local digest, user = struct.unpack('>BI2', h, 25)
  return user > 0 and redis.call('GETRANGE', key, 27 + digest, 26 + digest + user) or ''
end
"""

_ENLIST = """
local function enlist(index, id, ttl)
  local now = tonumber(redis.call('TIME')[1])
  redis.call('ZADD', index, now + ttl, id)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. now)
  if redis.call('TTL', index) < ttl then redis.call('EXPIRE', index, ttl) end
end
"""

_CLOSE = rf"""
local function close(key, h, deadline, successor)
  local size = string.byte(h, 25)
  local digest = size > 0 and redis.call('GETRANGE', key, 27, 26 + size) or ''
  local left = redis.call('PTTL', key) + (deadline - struct.unpack('>I8', h, 9)) * 1000
  left = math.min(math.max(left, {MARGIN * 1000}), {MAX_TTL * 1000})
  local value = '\129\0\0\0\0\0\0\0' .. struct.pack('>I8I8BI2', deadline, 0, size, 0) .. digest .. successor
  redis.call('SET', key, value, 'PX', string.format('%.0f', left))
end
"""

ENLIST = _script(_ENLIST, "enlist(KEYS[1], ARGV[1], tonumber(ARGV[2])) return 2")
"""KEYS index. ARGV id, ttl."""

CREATE = _script(
    _ENLIST,
    """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local ttl = tonumber(ARGV[2])
    enlist(KEYS[2], ARGV[3], ttl)
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ttl)
    return 2
    """,
)
"""KEYS record, index. ARGV value, ttl, id."""

SAVE_PAYLOAD = _script(
    """
    local call, sub, key, value = redis.call, string.sub, KEYS[1], ARGV[2]
    local h = call('GETRANGE', key, 0, 23)
    if sub(h, 1, 8) ~= ARGV[1] then return string.byte(h) == 1 and 1 or 0 end
    local times = sub(h, 9)
    if times ~= sub(value, 9, 24) then value = sub(value, 1, 8) .. times .. sub(value, 25) end
    call('SET', key, value, 'KEEPTTL')
    return 2
    """
)
"""Times that a touch raised meanwhile stay. KEYS record. ARGV expected stamp, value."""

SAVE = _script(
    _HEAD,
    _ENLIST,
    """
    local h = head(KEYS[1])
    if string.sub(h, 1, 8) ~= ARGV[1] then return refusal(h) end
    local ttl = tonumber(ARGV[3])
    if ARGV[5] ~= '' then
      local user = owner(KEYS[1], h)
      if KEYS[2] then enlist(KEYS[2], ARGV[4], ttl) end
      if user ~= '' and ARGV[5] .. user .. '}' ~= KEYS[2] then redis.call('ZREM', ARGV[5] .. user .. '}', ARGV[4]) end
    end
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ttl)
    return 2
    """,
)
"""KEYS record, and the index of its owner, if any. ARGV expected stamp, value, ttl, id, beginning of indexes."""

TOUCH = _script(
    _HEAD,
    _ENLIST,
    """
    local h = head(KEYS[1])
    if not live(h) then return 0 end
    local expires, active = struct.unpack('>I8I8', h, 9)
    local later = tonumber(ARGV[1])
    local times = struct.pack('>I8I8', math.max(expires, later), math.max(active, tonumber(ARGV[2])))
    redis.call('SETRANGE', KEYS[1], 8, times)
    if later > expires then
      local ttl = tonumber(ARGV[3])
      redis.call('EXPIRE', KEYS[1], ttl)
      local user = ARGV[5] ~= '' and owner(KEYS[1], h) or ''
      if user ~= '' then enlist(ARGV[5] .. user .. '}', ARGV[4], ttl) end
    end
    return 2
    """,
)
"""KEYS record. ARGV expires_at, last_activity, ttl, id, beginning of indexes."""

DELETE = _script(
    _HEAD,
    """
    local h = head(KEYS[1])
    if not live(h) then
      if ARGV[4] then return {string.byte(h) == 129 and 3 or 0, ''} end
      if ARGV[1] == '' then redis.call('UNLINK', KEYS[1]) end
      return {0, ''}
    end
    if ARGV[1] ~= '' and string.sub(h, 1, 8) ~= ARGV[1] then return {1, ''} end
    local user = owner(KEYS[1], h)
    if ARGV[4] and user ~= ARGV[4] then return {0, ''} end
    redis.call('UNLINK', KEYS[1])
    if user ~= '' and ARGV[3] ~= '' then redis.call('ZREM', ARGV[3] .. user .. '}', ARGV[2]) end
    return {2, user}
    """,
)
"""KEYS record. ARGV expected stamp or nothing, id, beginning of indexes, the only owner to take it from, if given.
Answers with the owner of what is gone; 3 where an owner is given and the record is closed."""

CLOSE = _script(
    _HEAD,
    _CLOSE,
    """
    local h = head(KEYS[1])
    if string.sub(h, 1, 8) ~= ARGV[1] then return {refusal(h), ''} end
    local user = owner(KEYS[1], h)
    close(KEYS[1], h, tonumber(ARGV[4]), ARGV[5])
    if user ~= '' and ARGV[3] ~= '' then redis.call('ZREM', ARGV[3] .. user .. '}', ARGV[2]) end
    return {2, user}
    """,
)
"""KEYS record. ARGV expected stamp, id, beginning of indexes, until, successor. Answers with the former owner."""

ROTATE = _script(
    _HEAD,
    _ENLIST,
    _CLOSE,
    """
    local h = head(KEYS[2])
    if string.sub(h, 1, 8) ~= ARGV[1] then return refusal(h) end
    if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
    local user = owner(KEYS[2], h)
    local ttl = tonumber(ARGV[3])
    if KEYS[3] then enlist(KEYS[3], ARGV[4], ttl) end
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ttl)
    close(KEYS[2], h, tonumber(ARGV[7]), ARGV[8])
    if user ~= '' then redis.call('ZREM', ARGV[6] .. user .. '}', ARGV[5]) end
    return 2
    """,
)
"""KEYS new record, old record, and the index of the new one's owner, if any.
ARGV expected stamp, value, ttl, new id, old id, beginning of indexes, until, successor."""

LIST = _script(
    _HEAD,
    """
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. redis.call('TIME')[1])
    local found = {}
    for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
      local key = ARGV[1] .. id .. '}'
      local h = head(key)
      if live(h) and owner(key, h) == ARGV[2] then
        found[#found + 1] = id
        found[#found + 1] = redis.call('GET', key)
      else
        redis.call('ZREM', KEYS[1], id)
      end
    end
    return found
    """,
)
"""KEYS index. ARGV beginning of records, user. Answers id, value, id, value …; an entry that leads nowhere goes."""

DELETE_USER = _script(
    _HEAD,
    """
    local count = 0
    for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
      if id ~= ARGV[3] then
        local key = ARGV[1] .. id .. '}'
        local h = head(key)
        if live(h) and owner(key, h) == ARGV[2] then
          redis.call('UNLINK', key)
          count = count + 1
        end
        redis.call('ZREM', KEYS[1], id)
      end
    end
    return count
    """,
)
"""KEYS index. ARGV beginning of records, user, the id to spare or nothing. Answers how many."""

PURGE = _script(
    _HEAD,
    """
    local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3], 'TYPE', 'string')
    local count, limit, now = 0, tonumber(ARGV[5]), tonumber(ARGV[4])
    for _, key in ipairs(page[2]) do
      local h = head(key)
      local kind = string.byte(h)
      if count < limit and #h == 27 and (kind == 1 or kind == 129) and struct.unpack('>I8', h, 9) <= now then
        local user = ARGV[7] ~= '' and owner(key, h) or ''
        if user ~= '' then redis.call('ZREM', ARGV[7] .. user .. '}', string.sub(key, #ARGV[6] + 1, -2)) end
        redis.call('UNLINK', key)
        count = count + 1
      end
    end
    return {page[1], count}
    """,
)
"""No KEYS. ARGV cursor, pattern, page size, now, limit, beginning of records, beginning of indexes.
Answers the next cursor and how many."""

COUNT = _script(
    _HEAD,
    """
    local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3], 'TYPE', 'string')
    local count, now = 0, tonumber(ARGV[4])
    for _, key in ipairs(page[2]) do
      local h = head(key)
      local kind = string.byte(h)
      if #h == 27 and (kind == 1 or kind == 129) and struct.unpack('>I8', h, 9) <= now then count = count + 1 end
    end
    return {page[1], count}
    """,
)
"""No KEYS. ARGV cursor, pattern, page size, now. Answers the next cursor and how many are over."""

STATS = _script(
    """
    local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3], 'TYPE', 'string')
    local live, expired, closed, bytes, oldest, newest = 0, 0, 0, 0, false, false
    local users, seen, now = {}, {}, tonumber(ARGV[4])
    local numbers = {[204] = '>I1', [205] = '>I2', [206] = '>I4', [207] = '>I8'}
    local sizes = {[196] = '>I1', [197] = '>I2', [198] = '>I4', [217] = '>I1', [218] = '>I2', [219] = '>I4'}
    local function item(value, at)
      local first = string.byte(value, at)
      if first < 128 then return at + 1, first end
      if first == 192 then return at + 1, 0 end
      if first >= 160 and first < 192 then return at + 1 + first - 160, first - 160 end
      if numbers[first] then
        local number, after = struct.unpack(numbers[first], value, at + 1)
        return after, number
      end
      local size, after = struct.unpack(sizes[first], value, at + 1)
      return after + size, size
    end
    local function look(value)
      local kind = string.byte(value)
      if #value < 27 or kind ~= 1 and kind ~= 129 then return end
      local over, _, digest, user = struct.unpack('>I8I8BI2', value, 9)
      if over <= now then
        expired = expired + 1
      elseif kind == 129 then
        closed = closed + 1
      else
        local body = 28 + digest + user
        local at, created = item(value, body + 1)
        local payload
        at = item(value, at)
        at, payload = item(value, at)
        for _ = 4, string.byte(value, body) - 144 do at = item(value, at) end
        if at ~= #value + 1 then return end
        bytes, live = bytes + payload, live + 1
        if not oldest or created < oldest then oldest = created end
        if not newest or created > newest then newest = created end
        local name = string.sub(value, 28 + digest, 27 + digest + user)
        if user > 0 and not seen[name] then
          seen[name] = true
          users[#users + 1] = name
        end
      end
    end
    for _, key in ipairs(page[2]) do
      local value = redis.call('GET', key)
      if value then pcall(look, value) end
    end
    return {page[1], live, expired, closed, bytes, oldest, newest, users}
    """,
)
"""No KEYS. ARGV cursor, pattern, page size, now. Answers the next cursor, live, expired and closed records, bytes of
payload, the first and last created_at or nothing, and the owners of live records. A live record that is damaged counts
nowhere. ``item`` passes over one item of MessagePack, as far as bodies have them; the server's reader knows no bin."""
