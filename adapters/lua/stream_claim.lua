-- Entries that somebody was given long ago and has not acknowledged, for a consumer. At most 1,000 pending entries are looked at.
-- KEYS: the stream. ARGV: GROUP CONSUMER IDLE_MS COUNT. Answers a list of {id, {field, value, ...}, deliveries}.
-- XPENDING and XCLAIM, and not XAUTOCLAIM: that one does not tell how often an entry was delivered, and its answer differs between servers;
-- of an entry that was deleted, 6.2 says nothing and keeps it pending for ever. Here such an entry is acknowledged, for it is gone.
local key, group, consumer, idle_ms, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local answer, from = {}, '-'
for _ = 1, 10 do
  local page = redis.pcall('XPENDING', key, group, from, '+', 100)
  if page.err then
    return string.find(page.err, 'NOGROUP', 1, true) and answer or page
  end
  for _, row in ipairs(page) do
    local id, idle, deliveries = row[1], row[3], row[4]
    if #answer == count then
      return answer
    end
    if idle >= idle_ms then
      local entry = redis.call('XRANGE', key, id, id)[1]
      if entry then
        redis.call('XCLAIM', key, group, consumer, 0, id)
        table.insert(answer, {id, entry[2], deliveries + 1})
      else
        redis.call('XACK', key, group, id)
      end
    end
    from = '(' .. id
  end
  if #page < 100 then
    break
  end
end
return answer
