-- send: store a message in an inbox, unless it has it already or is full
--
-- KEYS    messages ready delayed states marks marks_old seq wake
-- ARGV    call:text queue_size:number horizon:number replay:number lifetime:number id:text body:text priority:number delay:number ttl:number
-- RETURNS STORED, DUPLICATE or FULL, in a list
-- INCLUDE codes number clock state marks finished origin wake fade
--
-- Invariant: the hash `messages` holds exactly the unfinished ones, so its length is what
-- `queue_size` limits. A call that is repeated meets its own messages by their origin.
-- `replay` is 1 for a dead letter of another inbox: that this one finished the same before does
-- not keep it out, but for this very replay.

local now = now_us()

local function store()
  local score = int((9 - priority) * LEVEL + redis.call('INCR', k_seq))
  local expires = ttl < 0 and '0' or int(now + delay + ttl)
  redis.call('HSET', k_messages, id, int(now) .. ' ' .. expires .. ' ' .. call .. ' ' .. body)
  if delay == 0 then
    redis.call('ZADD', k_ready, score, id)
  else
    write_state(id, fresh_state(score, call))
    redis.call('ZADD', k_delayed, int(now + delay), id)
  end
  if delay < horizon then wake() end
end

local record = redis.call('HGET', k_messages, id)
local origin = earlier_origin(record, not record and read_mark(id), now)
local answer = FULL
if origin then
  answer = origin == call and STORED or DUPLICATE
elseif redis.call('HLEN', k_messages) < queue_size then
  answer = STORED
  store()
end
fade()
return { answer }
