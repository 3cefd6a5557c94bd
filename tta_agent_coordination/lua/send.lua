-- send: store messages in one inbox, unless it has them already or is full
--
-- KEYS    messages ready delayed states marks marks_old seq wake
-- ARGV    call:text queue_size:number horizon:number replay:number lifetime:number then id body priority delay ttl, repeated
-- RETURNS for each message STORED, DUPLICATE or FULL
-- INCLUDE codes number clock state marks finished wake fade
--
-- Invariant: the hash `messages` holds exactly the unfinished ones, so its length is what
-- `queue_size` limits. A call that is repeated meets its own messages by their origin.
-- `replay` is 1 for a dead letter of another inbox: that this one finished the same before does
-- not keep it out, but for this very replay.

local now = now_us()
local held = redis.call('HLEN', k_messages)
local answers, seen, awake = {}, {}, false

local function earlier_origin(id)
  local record = redis.call('HGET', k_messages, id)
  if record then return string.match(record, '^%d+ %d+ (%S+) ') or '-' end
  local mark = read_mark(id)
  -- A call that is repeated meets its message even where the dedup window is shorter.
  return mark and (mark.origin == call or mark.ends > now and replay == 0) and mark.origin
end

local function store(id, body, priority, delay, ttl)
  local score = (9 - priority) * LEVEL + redis.call('INCR', k_seq)
  local expires = ttl < 0 and 0 or now + delay + ttl
  redis.call('HSET', k_messages, id, int(now) .. ' ' .. int(expires) .. ' ' .. call .. ' ' .. body)
  if delay > 0 then
    write_state(id, fresh_state(score, call))
    redis.call('ZADD', k_delayed, int(now + delay), id)
    awake = awake or delay < horizon
  else
    redis.call('ZADD', k_ready, int(score), id)
    awake = true
  end
  held = held + 1
end

for i = 6, #ARGV, 5 do
  local id = ARGV[i]
  local origin = earlier_origin(id)
  if origin then
    answers[#answers + 1] = origin == call and not seen[id] and STORED or DUPLICATE
  elseif held >= queue_size then
    answers[#answers + 1] = FULL
  else
    store(id, ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
    answers[#answers + 1] = STORED
  end
  seen[id] = true
end

if awake then wake() end
fade()
return answers
