-- purge: drop every unfinished message of an inbox
--
-- KEYS    messages ready delayed leased states claims marks marks_old seq wake
-- ARGV    call:text retention:number
-- RETURNS how many were dropped
-- INCLUDE marks

local earlier = recall_call()
if earlier then return tonumber(earlier) end

local held = redis.call('HLEN', k_messages)
redis.call('UNLINK', k_messages, k_ready, k_delayed, k_leased, k_states, k_claims, k_seq, k_wake)
if held > 0 then remember_call(held) end
return held
