-- Take a message off its lease, or out of the ready ones if the lease has passed meanwhile.
local function take_back(id, state)
  if redis.call('ZREM', k_leased, id) == 0 then redis.call('ZREM', k_ready, id) end
  redis.call('HDEL', k_claims, state.nonce)
end
