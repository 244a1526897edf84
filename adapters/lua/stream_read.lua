-- Entries that nobody was given yet, for a consumer. O(entries asked for).
-- KEYS: the stream. ARGV: GROUP CONSUMER COUNT. Answers a list of {id, {field, value, ...}, deliveries}.
-- A group that is gone, with the stream or alone, is made again from the beginning: delivered again is safe, lost is not.
local function read()
  return redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
end

local found = read()
if found and found.err then
  if not string.find(found.err, 'NOGROUP', 1, true) then
    return found
  end
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  found = read()
end
local answer = {}
if found and found[1] then
  for i, entry in ipairs(found[1][2]) do
    answer[i] = {entry[1], entry[2], 1}
  end
end
return answer
