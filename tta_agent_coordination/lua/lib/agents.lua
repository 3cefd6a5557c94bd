-- Registrations. A record is `epoch beat body`, or `epoch - call ended body` once a call has ended it.
local now = now_us()

local function standing(id)
  local held = redis.call('HGET', k_records, id)
  if not held then return nil end
  local epoch, beat, rest = string.match(held, '^(%d+) (%S+) (.*)$')
  return tonumber(epoch) or 0, beat, rest
end

local function store(id, record, state)
  redis.call('HSET', k_records, id, record)
  if state ~= '' then redis.call('HSET', k_states, id, state) end
  redis.call('ZADD', k_ends, int(now + grace), id)
end

local function forget_old()
  local gone = redis.call('ZRANGEBYSCORE', k_ends, '-inf', int(now), 'LIMIT', 0, BATCH)
  for _, id in ipairs(gone) do
    redis.call('ZREM', k_ends, id)
    redis.call('HDEL', k_records, id)
    redis.call('HDEL', k_states, id)
  end
  -- What nobody is left to forget goes with the keys, a moment after the last grace time.
  local last = redis.call('ZREVRANGE', k_ends, 0, 0, 'WITHSCORES')[2]
  local ends = int(math.ceil(tonumber(last) / 1000) + 1)
  for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, ends) end
end
