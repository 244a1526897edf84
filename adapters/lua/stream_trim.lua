-- Drop the oldest entries beyond the last KEEP, up to the first that is not acknowledged; at most 100 of them at a time.
-- KEYS: the stream; the hash from plan and body to entry (see stream_append.lua). ARGV: GROUP KEEP. Answers how many.
-- Neither MAXLEN nor a plain MINID will do: both drop entries that somebody is at work on.
local key, group, keep = KEYS[1], ARGV[1], tonumber(ARGV[2])
local excess = redis.call('XLEN', key) - keep
local waiting = redis.pcall('XPENDING', key, group)
if excess <= 0 or waiting.err then
  return 0
end
local bound = waiting[1] > 0 and waiting[2] or nil
if not bound then
  for _, facts in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local named = {}
    for i = 1, #facts, 2 do
      named[facts[i]] = facts[i + 1]
    end
    if named.name == group then
      local following = redis.call('XRANGE', key, '(' .. named['last-delivered-id'], '+', 'COUNT', 1)[1]
      bound = following and following[1]
    end
  end
end
local old = redis.call('XRANGE', key, '-', bound and '(' .. bound or '+', 'COUNT', math.min(excess, 100))
for _, entry in ipairs(old) do
  local named = {plan = '', body = ''}
  for i = 1, #entry[2], 2 do
    named[entry[2][i]] = entry[2][i + 1]
  end
  redis.call('HDEL', KEYS[2], redis.sha1hex(#named.plan .. ':' .. named.plan .. named.body))
end
if #old == 0 then
  return 0
end
local kept = redis.call('XRANGE', key, '(' .. old[#old][1], '+', 'COUNT', 1)[1]
if kept then
  redis.call('XTRIM', key, 'MINID', kept[1])
else
  redis.call('XTRIM', key, 'MAXLEN', 0)
end
return #old
