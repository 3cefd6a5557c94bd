-- nack: give back a message that could not be handled, for a retry or to the dead letters
--
-- KEYS    messages ready delayed leased states claims marks marks_old seq wake dead dead_records dead_dropped
-- ARGV    call:text id:text nonce:text reason:text error:text delay:number base:number factor:number ceiling:number jitter:number horizon:number deliveries:number dead_limit:number window:number retention:number
-- RETURNS DONE, ALREADY_DONE, STALE or UNKNOWN; dropped; the reason if it died, else ''
-- INCLUDE codes number clock state marks finished bury wake judge take_back tidy
--
-- `reason` is why it shall die at once, or '' for a retry. `delay` (µs) below 0 asks for the
-- back-off min(base * factor ^ (attempts - 1), ceiling), lengthened by the share `jitter`.

local now = now_us()
local state, answer = judge(id, nonce, NACKED)
if not state then return { answer, 0, '' } end

local function back_off()
  if delay >= 0 then return delay end
  if base == 0 then return 0 end
  local wait = math.min(base * factor ^ math.max(state.attempts - 1, 0), ceiling)
  return math.ceil(wait * (1 + jitter))
end

if error ~= '-' then state.error = error end
take_back(id, state)
if reason == '' and state.attempts >= deliveries then reason = 'attempts_exhausted' end
if reason ~= '' then
  bury(id, now, state, redis.call('HGET', k_messages, id) or '', reason, NACKED)
else
  state.standing = NACKED
  write_state(id, state)
  local wait = back_off()
  if wait > 0 then
    redis.call('ZADD', k_delayed, int(now + wait), id)
  else
    redis.call('ZADD', k_ready, state.score, id)
  end
  if wait < horizon then wake() end
end
remember_call(reason)
tidy()
return { DONE, dropped, reason }
