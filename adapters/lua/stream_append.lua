-- Put a plan on a stream, unless it is there with this body. O(1).
-- KEYS: the stream; the hash from plan and body, as a SHA-1, to the entry, of what is on the stream. ARGV: PLAN BODY. Answers the entry's id.
-- An entry is {plan, body, number}; numbers are consecutive, so that what lies between two entries is a difference.
local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then
      return entry[2][i + 1]
    end
  end
  return nil
end

-- Not by the plan alone: whoever puts something else there under its name would keep it out.
local name = redis.sha1hex(#ARGV[1] .. ':' .. ARGV[1] .. ARGV[2])
local known = redis.call('HGET', KEYS[2], name)
if known then
  local entry = redis.call('XRANGE', KEYS[1], known, known)[1]
  if entry and field(entry, 'plan') == ARGV[1] and field(entry, 'body') == ARGV[2] then
    return known
  end
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local number = (last and tonumber(field(last, 'number')) or 0) + 1
local id = redis.call('XADD', KEYS[1], '*', 'plan', ARGV[1], 'body', ARGV[2], 'number', string.format('%.0f', number))
redis.call('HSET', KEYS[2], name, id)
return id
