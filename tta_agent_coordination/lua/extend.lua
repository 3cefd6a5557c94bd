-- extend: let leases end later, or sooner, counted from now
--
-- KEYS    messages ready leased states marks marks_old wake
-- ARGV    call:text visibility:number horizon:number then id nonce, repeated
-- RETURNS for each token DONE, STALE or UNKNOWN
-- INCLUDE codes number clock state marks finished judge wake
--
-- A lease that has passed but whose message was not handed out again is taken up again.
-- ZREM goes first: it is allowed when the server is out of memory, and what follows it then too.

local deadline = now_us() + visibility
local answers = {}

local function extend(id, nonce)
  local state, answer = judge(id, nonce, LIVE)
  if not state then return answer end
  local before = tonumber(redis.call('ZSCORE', k_leased, id))
  redis.call('ZREM', before and k_leased or k_ready, id)
  redis.call('ZADD', k_leased, int(deadline), id)
  local sooner = not before or deadline < before
  if sooner and visibility < horizon then wake() end
  return DONE
end

for i = 4, #ARGV, 2 do answers[#answers + 1] = extend(ARGV[i], ARGV[i + 1]) end
return answers
