-- migrate: take messages out of the sorted sets and the hash of another layout into this one
--
-- KEYS    old_high old_normal old_low old_reserved old_deadlines migrated messages ready delayed states marks marks_old seq wake dead dead_records
-- ARGV    call:text horizon:number retention:number lifetime:number final:number then kind member id digest priority due attempts stored error body, repeated
-- RETURNS for each MOVED, COPY, GONE, HELD or TAKEN, as one text
-- INCLUDE codes number clock state marks finished wake adopt
--
-- Storing here and removing there are one step, which only one server can take: not for clusters.
-- `kind` is where it is: high, normal, low or reserved. Somebody else may have taken it meanwhile.

local earlier = recall_call()
if earlier then return earlier end

local scheduled = { high = k_old_high, normal = k_old_normal, low = k_old_low }
local answers = {}

local function take_scheduled(key, member, message)
  if not redis.call('ZSCORE', key, member) then return GONE end
  local answer = adopt(message)
  if answer ~= TAKEN then redis.call('ZREM', key, member) end
  return answer
end

-- Without a deadline, its consumer may be about to write one.
local function is_held(token)
  local deadline = tonumber(redis.call('ZSCORE', k_old_deadlines, token))
  return final == 0 and (not deadline or deadline > now)
end

local function take_reserved(token, message)
  if redis.call('HEXISTS', k_old_reserved, token) == 0 then return GONE end
  if is_held(token) then return HELD end
  local answer = adopt(message)
  if answer ~= TAKEN then
    redis.call('HDEL', k_old_reserved, token)
    redis.call('ZREM', k_old_deadlines, token)
  end
  return answer
end

for i = 6, #ARGV, 10 do
  local kind, member = ARGV[i], ARGV[i + 1]
  local message = { kind = kind, id = ARGV[i + 2], digest = ARGV[i + 3],
    priority = tonumber(ARGV[i + 4]), due = tonumber(ARGV[i + 5]),
    attempts = tonumber(ARGV[i + 6]), stored = tonumber(ARGV[i + 7]),
    error = ARGV[i + 8], body = ARGV[i + 9] }
  local key = scheduled[kind]
  answers[#answers + 1] = key and take_scheduled(key, member, message)
    or take_reserved(member, message)
end
return conclude(answers)
