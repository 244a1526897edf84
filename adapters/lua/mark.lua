-- A mark that is set once, and a cool-down between firings: a text, the token of who set it, that expires. O(1).
-- ARGV: once TOKEN TTL_MS | cool TOKEN SPACING_MS
-- Answers: once 1 for the token that has set it, else 0; cool 0 for the token that fires, else the milliseconds that are left.
-- The token that asks for a cool-down again begins it anew: whoever has to ask again fires later.
local key, action, token, ttl_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local by = redis.call('GET', key)
if not by or (by == token and action == 'cool') then
  redis.call('SET', key, token, 'PX', ttl_ms)
  by = token
end
if action == 'once' then
  return by == token and 1 or 0
end
return by == token and 0 or math.max(redis.call('PTTL', key), 1)
