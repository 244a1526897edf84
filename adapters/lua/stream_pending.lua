-- How many entries were given out and not acknowledged, or not given out yet. O(consumers).
-- KEYS: the stream. ARGV: GROUP.
local function number(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'number' then
      return tonumber(entry[2][i + 1])
    end
  end
  return 0
end

local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, group in ipairs(groups.err and {} or groups) do
  local facts = {}
  for i = 1, #group, 2 do
    facts[group[i]] = group[i + 1]
  end
  if facts.name == ARGV[1] then
    local following = redis.call('XRANGE', KEYS[1], '(' .. facts['last-delivered-id'], '+', 'COUNT', 1)[1]
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    return facts.pending + (following and number(last) - number(following) + 1 or 0)
  end
end
return redis.call('XLEN', KEYS[1])
