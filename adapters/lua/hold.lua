-- A hold on a symbol: a hash {owner, reason, plan} that expires. O(1).
-- ARGV: look | set OWNER REASON PLAN TTL_MS | renew OWNER TTL_MS | release OWNER
-- Answers: look and set {owner, reason, plan, milliseconds left}, or nothing where nobody holds it; the others 1 or 0.
local key, action, owner = KEYS[1], ARGV[1], ARGV[2]
local by = redis.call('HGET', key, 'owner')

-- Checked before anything is written: what has no time to live that the server takes would be held for ever.
local ttl_ms = (action == 'set' and ARGV[5]) or (action == 'renew' and ARGV[3])
if ttl_ms and not (string.match(ttl_ms, '^[1-9]%d*$') and #ttl_ms <= 15) then
  return redis.error_reply('ERR a time to live in whole milliseconds is needed, and nothing was written')
end
if action == 'look' or action == 'set' then
  if action == 'set' and not by then
    redis.call('HSET', key, 'owner', owner, 'reason', ARGV[3], 'plan', ARGV[4])
    redis.call('PEXPIRE', key, ttl_ms)
    return {owner, ARGV[3], ARGV[4], tonumber(ttl_ms)}
  elseif not by then
    return {}
  end
  local row = redis.call('HMGET', key, 'owner', 'reason', 'plan')
  return {row[1], row[2], row[3], redis.call('PTTL', key)}
end
if by ~= owner then
  return 0
end
if action == 'renew' then
  redis.call('PEXPIRE', key, ttl_ms)
else
  redis.call('DEL', key)
end
return 1
