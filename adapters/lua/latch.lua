-- The freeze latch: what is frozen, for every process; a row is what ../latch_row.py says, as JSON, and every change gives it an epoch
-- larger than all before; by the clock, so that this holds over the loss of everything, too.
-- ARGV: read | publish SCOPE AUTHOR TRIGGER REASON BY MOST | clear SCOPE AUTHOR EPOCH FORCE
-- Answers {done, epoch of the store, scope, row, scope, row, ...}: every frozen scope when it is read, else the one scope. A row is handed
-- over as it was read here, and one that cannot be read as '', so that nobody reads it differently. done is 0 where a clear named another
-- epoch of the row; with force, -1 names whatever is there. O(1) besides a reading and the authors of a row, of whom there are at most MOST.
local action, field = ARGV[1], 'latch:' .. (ARGV[2] or '')
local epoch = current_epoch()
local done = 1

-- Whether this is UTF-8. Half of a surrogate pair passes, as it does in ../redis_link.py.
local function is_text(bytes)
  if not string.find(bytes, '[\128-\255]') then
    return true
  end
  for _, form in ipairs({'[\194-\223]', '\224[\160-\191]', '[\225-\239][\128-\191]',
                         '\240[\144-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191]', '\244[\128-\143][\128-\191]'}) do
    bytes = string.gsub(bytes, form .. '[\128-\191]', '?')
  end
  return not string.find(bytes, '[\128-\255]')
end

-- The words of a row, or nil if they are no array of words.
local function words_of(row)
  local words, fields = {}, 0
  if row.words == nil then
    return words
  elseif type(row.words) ~= 'table' then
    return nil
  end
  for _ in pairs(row.words) do
    fields = fields + 1
  end
  for at, word in ipairs(row.words) do
    words[at] = {}
    for _, name in ipairs({'author', 'trigger', 'reason', 'by'}) do
      if type(word) ~= 'table' or type(word[name]) ~= 'string' then
        return nil
      end
      words[at][name] = word[name]
    end
  end
  return fields == #words and words or nil
end

-- The row, with the fields that are known here alone, or nil if there is none or it cannot be read: whoever wrote it, it must not make a
-- freeze fail. What could not be encoded again (a number that is none or infinite) cannot be read.
local function readable(known)
  local ok, row = pcall(cjson.decode, known)
  if not ok or type(row) ~= 'table' or not is_text(known) or not pcall(cjson.encode, row) then
    return nil
  end
  if type(row.epoch) ~= 'string' or type(row.joint) ~= 'boolean' or type(row.unnamed) ~= 'boolean' then
    return nil
  end
  if #row.epoch > 18 or not (row.epoch == '0' or string.match(row.epoch, '^[1-9]%d*$')) then
    return nil
  end
  local words = words_of(row)
  if not words or (#words == 0 and not row.unnamed) then
    return nil
  end
  return {epoch = row.epoch, joint = row.joint, unnamed = row.unnamed, words = words}
end

-- The row as a text. Words that are none are left out: Lua cannot tell an empty list from an empty map.
local function encoded(row)
  local words = #row.words > 0 and row.words or nil
  return cjson.encode({epoch = row.epoch, joint = row.joint, unnamed = row.unnamed, words = words})
end

local function position(row, author)
  for at, word in ipairs(row.words) do
    if word.author == author then
      return at
    end
  end
  return nil
end

local function put(row)
  row.epoch = text(math.max((tonumber(redis.call('HGET', hash, 'settings')) or 0) + 1, now))
  redis.call('HSET', hash, 'settings', row.epoch, field, encoded(row))
end

local known = action ~= 'read' and redis.call('HGET', hash, field)
local row = known and readable(known)

if action == 'publish' then
  local said = {author = ARGV[3], trigger = ARGV[4], reason = ARGV[5], by = ARGV[6]}
  row = row or {words = {}, joint = known ~= false, unnamed = known ~= false}
  for name, word in pairs(said) do
    row.joint = row.joint or (row.words[1] ~= nil and row.words[1][name] ~= word)
  end
  if position(row, said.author) then
    put(row)
  elseif #row.words < tonumber(ARGV[7]) then
    table.insert(row.words, said)
    put(row)
  elseif not row.unnamed then
    row.joint, row.unnamed = true, true
    put(row)
  end
elseif action == 'clear' and known then
  local at = row and position(row, ARGV[3])
  local force = ARGV[5] == '1'
  if (row and row.epoch or '-1') ~= ARGV[4] and not (force and ARGV[4] == '-1') then
    done = 0
  elseif force or (at and #row.words == 1 and not row.unnamed) then
    redis.call('HDEL', hash, field)
  elseif at then
    table.remove(row.words, at)
    put(row)
  end
end

local answer = {done, epoch}
local function tell(scope, text_there)
  local there = readable(text_there)
  table.insert(answer, scope)
  table.insert(answer, there and encoded(there) or '')
end

if action ~= 'read' then
  local now_there = redis.call('HGET', hash, field)
  if now_there then
    tell(ARGV[2], now_there)
  end
  return answer
end
local all = redis.call('HGETALL', hash)
for i = 1, #all, 2 do
  local scope = string.match(all[i], '^latch:(.*)$')
  if scope then
    tell(scope, all[i + 1])
  end
end
return answer
