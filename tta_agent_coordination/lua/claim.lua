-- claim: hand out ready messages on lease, after moving back what is due
--
-- KEYS    messages ready delayed leased states claims marks marks_old seq wake dead dead_records dead_dropped
-- ARGV    call:text most:number visibility:number holder:text staying:number horizon:number deliveries:number dead_limit:number window:number retention:number lifetime:number
-- RETURNS now, deadline, next_due (µs from now; -1: never), dropped, then {id, record, attempts, error} for each
-- INCLUDE codes number clock state marks finished bury wake due tidy fade
--
-- Invariant: whatever a consumer that leaves knows of work to come, it leaves a wake-up for: one
-- that waits is woken while anything is ready or becomes due before it would look by itself.
-- The call's id is the nonce of its tokens; repeated, it gets what it got the first time.

local now = now_us()
local deadline = now + visibility
local found, ids = {}, {}

local function lease(id, record, state)
  redis.call('ZADD', k_leased, int(deadline), id)
  found[#found + 1] = { id, record, state.attempts, state.error }
  ids[#ids + 1] = id
end

local function repeat_earlier(claimed)
  for id in string.gmatch(claimed, '%S+') do
    local state = read_state(id)
    local record = redis.call('HGET', k_messages, id)
    if record and state and state.nonce == call and state.standing == LIVE then
      redis.call('ZREM', k_ready, id)
      lease(id, record, state)
    end
  end
end

local function hand_out(id, score)
  local record = redis.call('HGET', k_messages, id)
  if not record then return redis.call('HDEL', k_states, id) end
  local expires, origin = string.match(record, '^%d+ (%d+) (%S+) ')
  local state = read_state(id) or fresh_state(tonumber(score), origin or '-')
  if expires and expires ~= '0' and tonumber(expires) <= now then
    return bury(id, now, state, record, 'expired', EXPIRED)
  elseif state.attempts >= deliveries then
    return bury(id, now, state, record, 'attempts_exhausted', EXPIRED)
  end
  if state.nonce ~= '-' then redis.call('HDEL', k_claims, state.nonce) end
  state.attempts, state.holder, state.nonce, state.standing = state.attempts + 1, holder, call, LIVE
  write_state(id, state)
  lease(id, record, state)
end

local function claim_ready()
  local looked = 0
  while #found < most and looked < most + BATCH do
    local popped = redis.call('ZPOPMIN', k_ready, math.min(most - #found, BATCH))
    if #popped == 0 then return end
    for i = 1, #popped, 2 do hand_out(popped[i], popped[i + 1]) end
    looked = looked + #popped / 2
  end
end

local claimed = redis.call('HGET', k_claims, call)
if claimed then repeat_earlier(claimed) end
if #found == 0 then
  redis.call('DEL', k_wake)
  if next_due(now) == 0 then
    promote_delayed(now)
    expire_leases(now)
  end
  claim_ready()
  if #found > 0 then redis.call('HSET', k_claims, call, table.concat(ids, ' ')) end
end

local due = redis.call('EXISTS', k_ready) == 1 and 0 or next_due(now)
local leaving = staying == 0 or #found > 0
if due == 0 or (leaving and due > 0 and due < horizon) then wake() end
if due < 0 then tidy() end
fade()
return { int(now), int(deadline), int(due), dropped, found }
