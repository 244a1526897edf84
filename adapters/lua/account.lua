-- The head of every script that touches what is safety-critical of an account. It all lies in ONE hash without a time to live, so no policy
-- that evicts expiring keys can take a part of it, and what goes, goes together and shows as a new epoch:
--   lineage                which process and which replication history this is
--   epoch, counter         the store's epoch, and how many leases it has granted in it
--   settings               the epoch of the latch's latest setting
--   lease:NAME             "epoch counter granted until holder", times in microseconds of the server's clock
--   latch:SCOPE            a row of the latch, as JSON
-- KEYS[1] is the hash. Numbers are written by text(): Lua's own way would round them.
local hash = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function text(number)
  return string.format('%.0f', number)
end

-- The store's epoch. It grows when this is another process than before, another replication history (a replica was promoted, a master was
-- demoted and came back), or when the hash is gone; by the clock, so that it grows over the loss of everything, too. It is read in the
-- script and not when somebody connects: connections outlive a change of roles.
local function current_epoch()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  local lineage = run .. '-' .. history
  local known = redis.call('HMGET', hash, 'lineage', 'epoch')
  if known[1] == lineage and known[2] then
    return known[2]
  end
  local epoch = text(math.max((tonumber(known[2]) or 0) + 1, now))
  redis.call('HSET', hash, 'lineage', lineage, 'epoch', epoch, 'counter', '0')
  return epoch
end
