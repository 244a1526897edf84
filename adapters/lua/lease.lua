-- A lease: one holder of a name at a time. O(1).
-- ARGV: acquire NAME HOLDER TTL_MS | renew NAME HOLDER EPOCH COUNTER TTL_MS | release NAME HOLDER [EPOCH COUNTER]
-- Answers: acquire {1, epoch, counter} or {0, holder}; the others 1 or 0.
-- Each grant drops what it meets of leases that have run out, among a few drawn at random: more than it adds, so that names which nobody asks
-- for again do not pile up in a hash that lives for ever.
-- Only a lease of the present epoch counts, from the moment of its grant until its end: a server's clock that went back voids it.
local action, name, holder = ARGV[1], ARGV[2], ARGV[3]
local field = 'lease:' .. name
local epoch = current_epoch()
local of, counter, granted, ends, by = string.match(redis.call('HGET', hash, field) or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
local live = of == epoch and now >= tonumber(granted) and now < tonumber(ends)

local function hold(number, ttl_ms)
  redis.call('HSET', hash, field, table.concat({epoch, number, text(now), text(now + ttl_ms * 1000), holder}, ' '))
end

local function drop_some()
  for _, other in ipairs(redis.call('HRANDFIELD', hash, 8)) do
    if string.sub(other, 1, 6) == 'lease:' then
      local epoch_of, _, _, over = string.match(redis.call('HGET', hash, other), '^(%d+) (%d+) (%d+) (%d+) ')
      if epoch_of ~= epoch or now >= tonumber(over) then
        redis.call('HDEL', hash, other)
      end
    end
  end
end

if action == 'acquire' then
  if live and by ~= holder then
    return {0, by}
  end
  local number = text(redis.call('HINCRBY', hash, 'counter', 1))
  hold(number, ARGV[4])
  drop_some()
  return {1, epoch, number}
end
local owned = live and by == holder and (not ARGV[4] or (of == ARGV[4] and counter == ARGV[5]))
if not owned then
  return 0
end
if action == 'renew' then
  hold(counter, ARGV[6])
else
  redis.call('HDEL', hash, field)
end
return 1
