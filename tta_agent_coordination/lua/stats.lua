-- stats: count what an inbox holds; changes nothing
--
-- KEYS    messages ready delayed leased dead dead_dropped
-- ARGV    then priority, repeated
-- RETURNS delayed, leased, dead, dropped, age in µs of the oldest ready message (-1: none), then ready for each priority
-- INCLUDE codes number clock

local now = now_us()
local oldest, ready = nil, {}

for i, priority in ipairs(ARGV) do
  local from = (9 - tonumber(priority)) * LEVEL
  local low, high = int(from), '(' .. int(from + LEVEL)
  ready[i] = redis.call('ZCOUNT', k_ready, low, high)
  local first = redis.call('ZRANGEBYSCORE', k_ready, low, high, 'LIMIT', 0, 1)[1]
  local record = first and redis.call('HGET', k_messages, first)
  local stored = record and tonumber(string.match(record, '^(%d+) '))
  if stored then oldest = math.min(oldest or stored, stored) end
end

return { redis.call('ZCARD', k_delayed), redis.call('ZCARD', k_leased),
         redis.call('ZCARD', k_dead), tonumber(redis.call('GET', k_dead_dropped) or 0),
         oldest and int(math.max(now - oldest, 0)) or '-1', ready }
