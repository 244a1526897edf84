-- Whether this user may do what the scripts of haltcore do, tried on a key of its own that lives a second at most. O(1).
-- KEYS: the key. ARGV: a time to live in milliseconds, should this be its last line. Answers a list of {command, the server's error}.
local key, refused = KEYS[1], {}

local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then
    table.insert(refused, {select(1, ...), answer.err})
  end
end

try('TIME')
try('INFO', 'server')
try('HSET', key, 'probe', '1')
try('PEXPIRE', key, ARGV[1])
try('HGET', key, 'probe')
try('HMGET', key, 'probe')
try('HGETALL', key)
try('HEXISTS', key, 'probe')
try('HINCRBY', key, 'probe', 1)
try('HRANDFIELD', key, 1)
try('HDEL', key, 'probe')
try('DEL', key)
try('SET', key, '1', 'PX', ARGV[1])
try('GET', key)
try('PTTL', key)
try('DEL', key)
try('XADD', key, '*', 'probe', '1')
try('PEXPIRE', key, ARGV[1])
try('XLEN', key)
try('XRANGE', key, '-', '+')
try('XREVRANGE', key, '+', '-')
try('XGROUP', 'CREATE', key, 'probe', '0')
try('XINFO', 'GROUPS', key)
try('XREADGROUP', 'GROUP', 'probe', 'probe', 'COUNT', 1, 'STREAMS', key, '>')
try('XPENDING', key, 'probe')
try('XCLAIM', key, 'probe', 'probe', 0, '0-1')
try('XACK', key, 'probe', '0-1')
try('XTRIM', key, 'MAXLEN', 0)
try('DEL', key)
return refused
