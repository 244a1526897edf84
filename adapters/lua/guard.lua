-- The guard of a side effect: a row that says who may carry it out, and what became of it. The tables are those of fsm/guard.py, and a test
-- holds the two to each other, cell by cell. O(1).
-- KEYS: the account's hash, for its epoch and latch; the row, a hash {state, owner, params, result, at} that expires.
-- ARGV: claim OWNER PARAMS TTL_MS EPOCH SCOPE... | retake OWNER PARAMS TTL_MS WAS_OWNER WAS_STATE SCOPE... | settle OWNER PARAMS TTL_MS STATE RESULT
-- Answers: claim {kind, state, owner, params, result, at}, {frozen, scope} or {epoch, the store's}; the others 1 or 0. EPOCH 0 names none.
local key = KEYS[2]
local action, owner, params, ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local row = redis.call('HMGET', key, 'state', 'owner', 'params', 'result', 'at')
local state, own, same = row[1], row[2] == owner, row[3] == params

local function write(new, result)
  local at = text(math.floor(now / 1000))
  redis.call('HSET', key, 'state', new, 'owner', owner, 'params', params, 'result', result, 'at', at)
  redis.call('PEXPIRE', key, ttl_ms)
  row = {new, owner, params, result, at}
end

local function frozen(first)
  for i = first, #ARGV do
    if redis.call('HEXISTS', KEYS[1], 'latch:' .. ARGV[i]) == 1 then
      return ARGV[i]
    end
  end
  return nil
end

if action == 'claim' then
  if ARGV[5] ~= '0' then
    local epoch = current_epoch()
    if epoch ~= ARGV[5] then
      return {'epoch', epoch}
    end
  end
  local kind
  if not state then
    kind = 'claimed'
  elseif not same and (own or state ~= 'rejected') then
    kind = 'mismatch'
  elseif state == 'done' then
    kind = 'done'
  elseif (state == 'intent' and own) or (state == 'rejected' and not own) then
    kind = 'claimed'
  else
    kind = 'held'
  end
  if kind == 'claimed' then
    local scope = frozen(6)
    if scope then
      return {'frozen', scope}
    end
    if not (state == 'intent' and own) then
      write('intent', '')
    end
  end
  return {kind, unpack(row)}
end

if action == 'retake' then
  local was = row[2] == ARGV[5] and state == ARGV[6]
  local again = state == 'intent' and own and same
  if not again and not (state and state ~= 'done' and was and not own and same) then
    return 0
  end
  if frozen(7) then
    return 0
  end
  if not again then
    write('intent', '')
  end
  return 1
end

local told, result = ARGV[5], ARGV[6]
local writes_on = {
  sent = {intent = true},
  done = {nothing = true, intent = true, sent = true, in_doubt = true, rejected = true},
  rejected = {nothing = true, intent = true, sent = true, in_doubt = true},
  in_doubt = {nothing = true, intent = true, sent = true},
}
if state and not (own and same) then
  return 0
end
if state == told then
  return 1
end
if writes_on[told][state or 'nothing'] then
  write(told, result)
  return 1
end
return 0
