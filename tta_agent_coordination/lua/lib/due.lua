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

-- Moves what is due, and returns how many leases have passed. What it takes is made in here, and
-- not in runs that find nothing due: Lua makes each function anew whenever it comes to it.
local function move_due(now)
  local moved, dying = 0, {}

  -- Calls `act` with the ids and the states of some at a time, no more than `unpack` takes.
  local function each_part(key, act)
    local ids = redis.call('ZRANGEBYSCORE', key, '-inf', int(now), 'LIMIT', 0, MOST_DUE)
    for first = 1, #ids, BATCH do
      local some = { unpack(ids, first, math.min(first + BATCH - 1, #ids)) }
      act(some, redis.call('HMGET', k_states, unpack(some)))
    end
  end

  -- All that is needed of the state of a message that comes back.
  local function place_of(raw)
    local score, attempts = string.match(raw or '', '^(%d+) (%d+) %S+ %S+ %S+ %a [-+]')
    if not score or #score > 16 then return int(4 * LEVEL), 0 end
    return score, tonumber(attempts)
  end

  local function promote(ids, states)
    local places = {}
    for i, id in ipairs(ids) do places[2 * i - 1], places[2 * i] = place_of(states[i]), id end
    redis.call('ZREM', k_delayed, unpack(ids))
    redis.call('ZADD', k_ready, unpack(places))
  end

  -- The token stays good until the message is handed out again: a late ack still counts.
  local function expire(ids, states)
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
  end

  local function give_up(one)
    local record = redis.call('HGET', k_messages, one.id)
    redis.call('ZREM', k_leased, one.id)
    if not record then return redis.call('HDEL', k_states, one.id) end
    bury(one.id, now, parse_state(one.raw), record, 'lease_expired', EXPIRED)
  end

  each_part(k_delayed, promote)
  each_part(k_leased, expire)
  -- Those that had all their attempts die in the order of their places, a batch in one run.
  table.sort(dying, function(a, b) return a.place < b.place end)
  local deaths = math.min(#dying, BATCH)
  for i = 1, deaths do give_up(dying[i]) end
  return moved + deaths
end
