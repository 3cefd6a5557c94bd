-- withdraw: take back a message that nobody is handling, as if it had never been sent
--
-- KEYS    messages ready delayed states claims seq wake
-- ARGV    id:text
-- RETURNS 1 if it was taken back, 0 if it is on lease or gone
-- INCLUDE codes number state tidy

local gone = redis.call('ZREM', k_ready, id) + redis.call('ZREM', k_delayed, id)
if gone > 0 then
  local state = read_state(id)
  if state then redis.call('HDEL', k_claims, state.nonce) end
  redis.call('HDEL', k_states, id)
  redis.call('HDEL', k_messages, id)
  tidy()
end
return gone
