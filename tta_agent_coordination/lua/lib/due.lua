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

-- As many as an inbox of the default size holds: so that what falls due together moves in one
-- step, and priorities hold among all of it.
local MOST_DUE = 10000

local function due_by(now, key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', int(now), 'LIMIT', 0, MOST_DUE)
end

-- Calls `act` with the ids and the raw states of some at a time, no more than `unpack` takes.
local function each_part(ids, act)
  for first = 1, #ids, BATCH do
    local some = { unpack(ids, first, math.min(first + BATCH - 1, #ids)) }
    act(some, redis.call('HMGET', k_states, unpack(some)))
  end
end

local function promote_delayed(now)
  each_part(due_by(now, k_delayed), function(ids, states)
    local places = {}
    for i, id in ipairs(ids) do places[2 * i - 1], places[2 * i] = place_of(states[i]), id end
    redis.call('ZREM', k_delayed, unpack(ids))
    redis.call('ZADD', k_ready, unpack(places))
  end)
end

-- Those that had all their attempts die in the order of their places, a batch in one run.
local function bury_first(dying, now)
  table.sort(dying, function(a, b) return a.place < b.place end)
  local count = math.min(#dying, BATCH)
  for i = 1, count do
    local id, state = dying[i].id, parse_state(dying[i].raw)
    local record = redis.call('HGET', k_messages, id)
    redis.call('ZREM', k_leased, id)
    if record then
      bury(id, now, state, record, 'lease_expired', EXPIRED)
    else
      redis.call('HDEL', k_states, id)
    end
  end
  return count
end

-- The token stays good until the message is handed out again: a late ack still counts.
local function expire_leases(now)
  local moved, dying = 0, {}
  each_part(due_by(now, k_leased), function(ids, states)
    local left, places = {}, {}
    for i, id in ipairs(ids) do
      local place, attempts = place_of(states[i])
      if attempts >= deliveries then
        dying[#dying + 1] = { id = id, raw = states[i], place = tonumber(place) }
      else
        left[#left + 1] = id
        if redis.call('HEXISTS', k_messages, id) == 1 then
          places[#places + 1], places[#places + 2] = place, id
        else
          redis.call('HDEL', k_states, id)
        end
      end
    end
    if #left > 0 then redis.call('ZREM', k_leased, unpack(left)) end
    if #places > 0 then redis.call('ZADD', k_ready, unpack(places)) end
    moved = moved + #left
  end)
  return moved + bury_first(dying, now)
end
