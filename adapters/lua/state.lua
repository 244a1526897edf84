-- A shared state under compare and set: a hash {version, text} without a time to live. O(1).
-- ARGV: VERSION TEXT, or nothing to read. Answers {put, version, text}; {-1, version} for a row that this script has not written, unless
-- VERSION is -1: then the text takes its place, under a version by the clock, which nobody has seen here.
-- A put that finds its own text under the next version was applied before, and its answer lost.
-- Versions count from 1 and end before 2^53: from there on Lua's numbers skip some, and two writers would both be the first.
local row = redis.pcall('HMGET', KEYS[1], 'version', 'text')

local function is_version(text)
  return #text <= 16 and string.match(text, '^[1-9]%d*$') and tonumber(text) < 9007199254740991
end

-- Whether it is UTF-8: nothing above 127 is left when its characters are taken out.
local function is_text(text)
  local two = string.gsub(text, '[\194-\223][\128-\191]', '.')
  local low = string.gsub(string.gsub(two, '\224[\160-\191][\128-\191]', '.'), '[\225-\239][\128-\191][\128-\191]', '.')
  local high = string.gsub(string.gsub(low, '\240[\144-\191][\128-\191][\128-\191]', '.'), '[\241-\243][\128-\191][\128-\191][\128-\191]', '.')
  return not string.find(string.gsub(high, '\244[\128-\143][\128-\191][\128-\191]', '.'), '[\128-\255]')
end

local nothing = not row.err and not row[1] and not row[2]
if not nothing and (row.err or not row[1] or not row[2] or not is_version(row[1]) or not is_text(row[2])) then
  if ARGV[1] ~= '-1' then
    return {-1, row.err or row[1] or 'none'}
  end
  local clock = redis.call('TIME')
  local anew = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'version', anew, 'text', ARGV[2])
  return {1, anew, ARGV[2]}
end
local version, kept = row[1] or '0', row[2] or ''
if not ARGV[1] then
  return {0, version, kept}
end
local following = string.format('%.0f', ARGV[1] + 1)
if version == ARGV[1] then
  redis.call('HSET', KEYS[1], 'version', following, 'text', ARGV[2])
  return {1, following, ARGV[2]}
end
return {version == following and kept == ARGV[2] and 1 or 0, version, kept}
