-- release: give back a message unhandled, at once, the attempt not counted
--
-- KEYS    messages ready leased states claims marks marks_old wake
-- ARGV    call:text id:text nonce:text retention:number
-- RETURNS DONE, ALREADY_DONE, STALE or UNKNOWN
-- INCLUDE codes number state marks finished judge take_back wake

local state, answer = judge(id, nonce, RELEASED)
if not state then return answer end

take_back(id, state)
state.attempts, state.standing = math.max(state.attempts - 1, 0), RELEASED
write_state(id, state)
redis.call('ZADD', k_ready, state.score, id)
wake()
remember_call('')
return DONE
