-- What is due: delayed messages whose time has come, and leases whose deadline has passed.
local function head(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return tonumber(first[2])
end

-- Microseconds until the next message becomes due, 0 if one is, -1 if none will.
local function next_due(now)
  local delayed, leased = head(k_delayed), head(k_leased)
  local first = math.min(delayed or math.huge, leased or math.huge)
  if first == math.huge then return -1 end
  return math.max(first - now, 0)
end

local function promote_delayed(now)
  local ids = redis.call('ZRANGEBYSCORE', k_delayed, '-inf', int(now), 'LIMIT', 0, BATCH)
  for _, id in ipairs(ids) do
    local state = read_state(id) or lost_state()
    redis.call('ZREM', k_delayed, id)
    redis.call('ZADD', k_ready, state.score, id)
  end
  return #ids
end

-- The token stays good until the message is handed out again: a late ack still counts.
local function expire_leases(now)
  local ids = redis.call('ZRANGEBYSCORE', k_leased, '-inf', int(now), 'LIMIT', 0, BATCH)
  local expired = {}
  for i, id in ipairs(ids) do
    local state = read_state(id) or lost_state()
    expired[i] = { id = id, state = state, place = tonumber(state.score) }
  end
  table.sort(expired, function(a, b) return a.place < b.place end)
  for _, one in ipairs(expired) do
    local id, state = one.id, one.state
    local record = redis.call('HGET', k_messages, id)
    redis.call('ZREM', k_leased, id)
    if not record then
      redis.call('HDEL', k_states, id)
    elseif state.attempts >= deliveries then
      bury(id, now, state, record, 'lease_expired', EXPIRED)
    else
      redis.call('ZADD', k_ready, state.score, id)
    end
  end
  return #ids
end
