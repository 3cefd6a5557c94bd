-- withdraw: take back a message that nobody is handling, as if it had never been sent
--
-- KEYS    messages ready delayed states claims marks marks_old seq wake dead_records
-- ARGV    call:text id:text retention:number
-- RETURNS one text, `place attempts error`: the place is `waiting` (and it was taken back), `leased`, the reason of its death, or `gone`
-- INCLUDE codes number state marks tidy

local function told(place, state)
  return place .. ' ' .. int(state and state.attempts or 0) .. ' ' .. (state and state.error or '-')
end

local function told_of_the_dead()
  local record = redis.call('HGET', k_dead_records, id) or ''
  local reason, attempts, length, start =
    string.match(record, '^([%w_]+) %d+ %d+ (%d+) %S+ (%d+) ()')
  if not reason then return told('gone') end
  return reason .. ' ' .. attempts .. ' ' .. string.sub(record, start, start + tonumber(length) - 1)
end

local gone = redis.call('ZREM', k_ready, id) + redis.call('ZREM', k_delayed, id)
local state = read_state(id)
if gone == 0 then
  return state and told('leased', state) or recall_call() or told_of_the_dead()
end
if state and state.standing == LIVE then redis.call('HDEL', k_claims, state.nonce) end
redis.call('HDEL', k_states, id)
redis.call('HDEL', k_messages, id)
remember_call(told('waiting', state))
tidy()
return told('waiting', state)
