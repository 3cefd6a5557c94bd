-- Handing out: ready messages go on lease under the id of the call, which is the nonce of their
-- tokens.
local states, leases, claims

-- Redis prints some large scores as 1.76e+15.
local function whole(score)
  return string.find(score, '^%d+$') and score or int(tonumber(score))
end

-- As print_state writes it; most messages have no state before, and nothing has to be parsed.
local function first_state(score, origin)
  return whole(score) .. ' 1 ' .. origin .. ' ' .. holder .. ' ' .. call .. ' ' .. LIVE .. ' -'
end

local function lend(id, record, state, attempts, error)
  states[#states + 1], states[#states + 2] = id, state
  leases[#leases + 1], leases[#leases + 2] = ends, id
  found(id, record, attempts, error)
end

local function lease(id, score, record, raw_state)
  if not record then return redis.call('HDEL', k_states, id) end
  local expires, origin = string.match(record, '^%d+ (%d+) (%S+) ')
  if expires == '0' and not raw_state then
    return lend(id, record, first_state(score, origin), 1, '-')
  end
  local state = parse_state(raw_state) or fresh_state(whole(score), origin or '-')
  if expires and expires ~= '0' and tonumber(expires) <= now then
    return bury(id, now, state, record, 'expired', EXPIRED)
  elseif state.attempts >= deliveries then
    return bury(id, now, state, record, 'attempts_exhausted', EXPIRED)
  end
  if state.standing == LIVE then claims[#claims + 1] = state.nonce end
  state.attempts, state.holder, state.nonce, state.standing = state.attempts + 1, holder, call, LIVE
  lend(id, record, print_state(state), state.attempts, state.error)
end

local function hand_out(popped)
  local names = {}
  for i = 1, #popped, 2 do names[#names + 1] = popped[i] end
  local records = redis.call('HMGET', k_messages, unpack(names))
  local before = redis.call('HMGET', k_states, unpack(names))
  states, leases, claims = {}, {}, {}
  for i, id in ipairs(names) do lease(id, popped[2 * i], records[i], before[i]) end
  if #states == 0 then return end
  redis.call('HSET', k_states, unpack(states))
  redis.call('ZADD', k_leased, unpack(leases))
  if #claims > 0 then redis.call('HDEL', k_claims, unpack(claims)) end
end

-- Says whether something may be ready still.
local function claim_ready()
  local looked = 0
  while #handed < most and looked < most + BATCH do
    local asked = math.min(most - #handed, BATCH)
    local popped = redis.call('ZPOPMIN', k_ready, asked)
    if #popped > 0 then hand_out(popped) end
    if #popped < 2 * asked then return false end
    looked = looked + asked
  end
  return redis.call('EXISTS', k_ready) == 1
end

local function claim_new()
  local due = next_due(now)
  if due == 0 then
    move_due(now)
    due = next_due(now)
  end
  local more = claim_ready()
  if #handed > 0 then
    redis.call('HSET', k_claims, call, table.concat(handed, ' '))
    due = due < 0 and visibility or math.min(due, visibility)
  end
  return more and 0 or due
end

-- Returns microseconds until there is something again, as `next_due` does.
local function claim()
  local claimed = redis.call('HGET', k_claims, call)
  if claimed then
    repeat_earlier(claimed)
  elseif answer_by > 0 and now > answer_by then
    deadline = 0
    -- A wait before it may have taken away a wake-up that others need.
    if redis.call('EXISTS', k_messages) == 1 then wake() end
    return 0
  end
  local due
  local repeated = #handed > 0
  if repeated then
    due = redis.call('EXISTS', k_ready) == 1 and 0 or next_due(now)
  else
    due = claim_new()
  end
  local leaving = staying == 0 or #handed > 0
  if due == 0 or (leaving and due > 0 and due < horizon) then
    wake()
  elseif not repeated then
    redis.call('DEL', k_wake)
  end
  if due < 0 then tidy() end
  return due
end
