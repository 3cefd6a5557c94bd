-- ack: finish messages that were handled
--
-- KEYS    messages ready leased states claims marks marks_old seq wake
-- ARGV    call:text window:number retention:number then id nonce, repeated
-- RETURNS for each token DONE, ALREADY_DONE, STALE or UNKNOWN
-- INCLUDE codes number clock state marks finished judge take_back tidy

local now = now_us()
local answers = {}

local function ack(id, nonce)
  local state, answer = judge(id, nonce, ACKED)
  if not state then return answer end
  take_back(id, state)
  redis.call('HDEL', k_messages, id)
  redis.call('HDEL', k_states, id)
  mark_finished(id, now, state, ACKED)
  return DONE
end

for i = 4, #ARGV, 2 do answers[#answers + 1] = ack(ARGV[i], ARGV[i + 1]) end
tidy()
return answers
