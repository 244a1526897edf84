-- What a consumer says about an entry that it was given. Only whose it is has a say: XACK alone would take anybody's word. O(1).
-- KEYS: the stream; the stream of its dead letters; the hash from plan and body to entry of that one (see stream_append.lua).
-- ARGV: keep GROUP CONSUMER ID | done GROUP CONSUMER ID | bury GROUP CONSUMER ID WHY LAST. Answers 1 or 0.
-- Of dead letters the last LAST stay, whoever was given one; each burial drops at most 100.
local key, dead = KEYS[1], KEYS[2]
local action, group, consumer, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local row = redis.pcall('XPENDING', key, group, id, id, 1)
if row.err or not row[1] or row[1][2] ~= consumer then
  return 0
end
if action == 'keep' then
  redis.call('XCLAIM', key, group, consumer, 0, id, 'JUSTID')
  return 1
end
local function fields(entry)
  local named = {}
  for i = 1, entry and #entry[2] or 0, 2 do
    named[entry[2][i]] = entry[2][i + 1]
  end
  return named
end

local function name(entry)
  local plan = entry.plan or ''
  return redis.sha1hex(#plan .. ':' .. plan .. (entry.body or ''))
end

if action == 'bury' then
  local entry = fields(redis.call('XRANGE', key, id, id)[1])
  local known = redis.call('HGET', KEYS[3], name(entry))
  if not known or not redis.call('XRANGE', dead, known, known)[1] then
    local last = fields(redis.call('XREVRANGE', dead, '+', '-', 'COUNT', 1)[1])
    local number = string.format('%.0f', (tonumber(last.number) or 0) + 1)
    local plan, body = entry.plan or '', entry.body or ''
    local buried = redis.call('XADD', dead, '*', 'plan', plan, 'body', body, 'number', number, 'why', ARGV[5])
    redis.call('HSET', KEYS[3], name(entry), buried)
  end
  local excess = math.min(redis.call('XLEN', dead) - tonumber(ARGV[6]), 100)
  for _, old in ipairs(excess > 0 and redis.call('XRANGE', dead, '-', '+', 'COUNT', excess) or {}) do
    redis.call('HDEL', KEYS[3], name(fields(old)))
    redis.pcall('XACK', dead, group, old[1])
    redis.call('XDEL', dead, old[1])
  end
end
redis.call('XACK', key, group, id)
return 1
