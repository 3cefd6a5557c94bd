-- Take over a message of another layout, unless it was taken before or the inbox has one of its id.
-- The hash `migrated` says what was taken: id -> digest of the message.
local now = now_us()
local awake = false

local function taken_before(message)
  return redis.call('HGET', k_migrated, message.id) == message.digest
end

local function has_one_of_its_id(id)
  local mark = read_mark(id)
  return redis.call('HEXISTS', k_messages, id) == 1
    or redis.call('HEXISTS', k_dead_records, id) == 1
    or (mark and mark.ends > now)
end

local function put_unfinished(message, state, record)
  local id, due = message.id, message.due
  redis.call('HSET', k_messages, id, record)
  if due > now or state.attempts > 0 or state.error ~= '-' then write_state(id, state) end
  if due > now then
    redis.call('ZADD', k_delayed, int(due), id)
    awake = awake or due - now < horizon
  else
    redis.call('ZADD', k_ready, state.score, id)
    awake = true
  end
end

-- Dead letters keep their order, one microsecond apart.
local function put_dead(message, state, record)
  local last = redis.call('ZREVRANGE', k_dead, 0, 0, 'WITHSCORES')[2]
  local dead_at = math.max(now, (tonumber(last) or 0) + 1)
  redis.call('HSET', k_dead_records, message.id, table.concat({ 'permanent', int(dead_at),
    state.score, int(state.attempts), '-', int(#state.error), state.error .. record }, ' '))
  redis.call('ZADD', k_dead, int(dead_at), message.id)
end

local function adopt(message)
  if taken_before(message) then return COPY end
  if has_one_of_its_id(message.id) then return TAKEN end
  redis.call('HSET', k_migrated, message.id, message.digest)
  local level = (9 - message.priority) * LEVEL
  local state = fresh_state(int(level), '-')
  state.attempts, state.error = message.attempts, message.error
  local since = message.stored > 0 and math.min(message.stored, now) or now
  local record = int(since) .. ' 0 - ' .. message.body
  if message.kind == 'dead' then
    put_dead(message, state, record)
  else
    state.score = int(level + redis.call('INCR', k_seq))
    put_unfinished(message, state, record)
  end
  return MOVED
end

local function conclude(answers)
  if awake then wake() end
  redis.call('PEXPIRE', k_migrated, lifetime)
  local said = table.concat(answers, ' ')
  remember_call(said)
  return said
end
