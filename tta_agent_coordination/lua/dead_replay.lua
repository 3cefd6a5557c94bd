-- dead_replay: make dead letters receivable again in the inbox they died in
--
-- KEYS    messages ready states marks marks_old seq wake dead dead_records
-- ARGV    call:text queue_size:number retention:number then id, repeated
-- RETURNS how many were moved
-- INCLUDE codes number clock state marks wake
--
-- They start anew: no attempts, at the end of their priority, as long to live as at first. One that
-- the inbox holds again meanwhile, or has no room for, stays where it is. Their error is kept for the
-- dead letter that comes of it if they die again without another, of their age say.

local earlier = recall_call()
if earlier then return tonumber(earlier) end

local now = now_us()
local moved = 0

local function renewed(record)
  local stored, expires, rest = string.match(record, '^(%d+) (%d+) (.*)$')
  if not stored then return record end
  if expires ~= '0' then expires = int(now + tonumber(expires) - tonumber(stored)) end
  return int(now) .. ' ' .. expires .. ' ' .. rest
end

local function keep_error(id, score, record, error)
  if error == '-' then return end
  local state = fresh_state(score, string.match(record, '^%d+ %d+ (%S+) ') or '-')
  state.error = string.gsub(error, '^%+', '- ')
  write_state(id, state)
end

local function replay(id)
  local dead = redis.call('HGET', k_dead_records, id)
  if not dead or redis.call('HEXISTS', k_messages, id) == 1 then return end
  local score, length, rest = string.match(dead, '^%S+ %d+ (%d+) %d+ %S+ (%d+) (.*)$')
  if not score then return end
  local level = math.floor(tonumber(score) / LEVEL)
  local record = renewed(string.sub(rest, tonumber(length) + 1))
  local place = int(level * LEVEL + redis.call('INCR', k_seq))
  redis.call('ZADD', k_ready, place, id)
  redis.call('HSET', k_messages, id, record)
  keep_error(id, place, record, string.sub(rest, 1, tonumber(length)))
  redis.call('HDEL', k_marks, id)
  redis.call('HDEL', k_marks_old, id)
  redis.call('ZREM', k_dead, id)
  redis.call('HDEL', k_dead_records, id)
  moved = moved + 1
end

for i = 4, #ARGV do
  if redis.call('HLEN', k_messages) < queue_size then replay(ARGV[i]) end
end

if moved > 0 then
  wake()
  remember_call(moved)
end
return moved
