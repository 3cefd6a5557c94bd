-- Move a message to the dead letters; the caller has taken it out of ready, delayed or leased.
-- Record: reason dead_at score attempts holder length-of-error error stored-message
-- `buried` gets id and reason of each, for the caller to be told.
local dropped, buried = 0, {}
local newest

local function drop_oldest()
  local excess = redis.call('ZCARD', k_dead) - dead_limit
  if excess <= 0 then return end
  local oldest = redis.call('ZPOPMIN', k_dead, math.min(excess, BATCH))
  for i = 1, #oldest, 2 do
    redis.call('HDEL', k_dead_records, oldest[i])
    dropped = dropped + 1
  end
  redis.call('INCRBY', k_dead_dropped, #oldest / 2)
end

local function bury(id, now, state, record, reason, standing)
  redis.call('HSET', k_dead_records, id, table.concat({ reason, int(now), state.score,
    int(state.attempts), state.holder, int(#state.error), state.error .. record }, ' '))
  -- Those that die in one step, or while the clock is set back, keep their order.
  newest = newest or tonumber(redis.call('ZRANGE', k_dead, -1, -1, 'WITHSCORES')[2]) or 0
  newest = math.max(now, newest + 1)
  redis.call('ZADD', k_dead, int(newest), id)
  redis.call('HDEL', k_messages, id)
  redis.call('HDEL', k_states, id)
  if state.standing == LIVE then redis.call('HDEL', k_claims, state.nonce) end
  mark_finished(id, now, state, standing)
  drop_oldest()
  buried[#buried + 1], buried[#buried + 2] = id, reason
end
