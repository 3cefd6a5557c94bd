-- migrate_back: give messages that nobody holds back to the keys of another layout
--
-- KEYS    old_high old_normal old_low old_dlq old_list migrated messages ready delayed leased states claims marks marks_old seq wake dead dead_records
-- ARGV    call:text retention:number then kind id attempts due body, repeated
-- RETURNS for each MOVED or GONE, as one text
-- INCLUDE codes number clock state marks tidy
--
-- `kind` is high, normal, low or dead, and `body` what is stored there. What was handed out since
-- it was looked at has other `attempts`, and stays. What went back may come again.

local earlier = recall_call()
if earlier then return earlier end

local now = now_us()
local scheduled = { high = k_old_high, normal = k_old_normal, low = k_old_low }
local answers = {}

local function give_back_dead(id, body)
  if redis.call('HEXISTS', k_dead_records, id) == 0 then return GONE end
  redis.call('RPUSH', k_old_dlq, body)
  redis.call('ZREM', k_dead, id)
  redis.call('HDEL', k_dead_records, id)
  return MOVED
end

local function is_free(id)
  local deadline = tonumber(redis.call('ZSCORE', k_leased, id))
  return redis.call('ZSCORE', k_ready, id) or redis.call('ZSCORE', k_delayed, id)
    or (deadline and deadline <= now)
end

local function give_back(key, id, attempts, due, body)
  local state = read_state(id)
  if not is_free(id) or (state and state.attempts or 0) ~= attempts then return GONE end
  redis.call('RPUSH', k_old_list, body)
  redis.call('ZADD', key, due, body)
  redis.call('ZREM', k_ready, id)
  redis.call('ZREM', k_delayed, id)
  redis.call('ZREM', k_leased, id)
  if state then redis.call('HDEL', k_claims, state.nonce) end
  redis.call('HDEL', k_states, id)
  redis.call('HDEL', k_messages, id)
  return MOVED
end

for i = 3, #ARGV, 5 do
  local kind, id, body = ARGV[i], ARGV[i + 1], ARGV[i + 4]
  local answer
  if kind == 'dead' then
    answer = give_back_dead(id, body)
  else
    answer = give_back(scheduled[kind], id, tonumber(ARGV[i + 2]), ARGV[i + 3], body)
  end
  if answer == MOVED then redis.call('HDEL', k_migrated, id) end
  answers[#answers + 1] = answer
end

tidy()
local said = table.concat(answers, ' ')
remember_call(said)
return said
