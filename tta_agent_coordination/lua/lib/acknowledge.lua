-- Finish messages that were handled; returns the answer for each token.
-- The live tokens are finished together, and the others are judged when that is done: a token
-- that is there twice finds what became of it the first time.
local function acknowledge(now, ids, nonces)
  local states = redis.call('HMGET', k_states, unpack(ids))
  local live, finished, claims, marks = {}, {}, {}, {}
  local ends = int(now + window)
  for i, id in ipairs(ids) do
    local nonce = nonces[i]
    local origin = live_origin(states[i], nonce)
    if origin and not live[id] then
      live[id] = i
      finished[#finished + 1] = id
      marks[#marks + 1], marks[#marks + 2] = id, mark_of(ends, origin, ACKED, nonce)
      if nonce ~= claims[#claims] then claims[#claims + 1] = nonce end
    end
  end
  if #finished > 0 then
    local leased = redis.call('ZREM', k_leased, unpack(finished))
    if leased < #finished then redis.call('ZREM', k_ready, unpack(finished)) end
    redis.call('HDEL', k_claims, unpack(claims))
    redis.call('HDEL', k_messages, unpack(finished))
    redis.call('HDEL', k_states, unpack(finished))
    remember(unpack(marks))
  end
  local answers = {}
  for i, id in ipairs(ids) do
    answers[i] = live[id] == i and DONE or select(2, judge(id, nonces[i], ACKED))
  end
  return answers
end
