-- send: store a message in an inbox, unless it has it already or is full
--
-- KEYS    messages ready delayed states marks marks_old seq wake
-- ARGV    call:text queue_size:number replay:text lifetime:number horizon:number delay:number id:text body:text priority:number ttl:number
-- RETURNS STORED, UNLISTED, DUPLICATE or FULL, in a list
-- INCLUDE codes number clock state marks finished origin wake fade
--
-- Invariant: the hash `messages` holds exactly the unfinished ones, so its length is what
-- `queue_size` limits. A call that is repeated meets its own messages by their origin.
-- UNLISTED is STORED for the first message of an inbox where nothing was finished of late either:
-- the inbox is new, or the server has lost all it knew, and the list of inboxes may lack it.
-- `replay` is the error of a dead letter of another inbox, `-` for none, and empty for all else: that
-- this inbox finished the same before does not keep a dead letter out, but for this very replay.

local now = now_us()

local function store()
  local sequence = redis.call('INCR', k_seq)
  local score = int((9 - priority) * LEVEL + sequence)
  local expires = ttl < 0 and '0' or int(now + delay + ttl)
  redis.call('HSET', k_messages, id, int(now) .. ' ' .. expires .. ' ' .. call .. ' ' .. body)
  if delay == 0 then
    redis.call('ZADD', k_ready, score, id)
    if replay ~= '' and replay ~= '-' then
      local state = fresh_state(score, call)
      state.error = replay
      write_state(id, state)
    end
  else
    write_state(id, fresh_state(score, call))
    redis.call('ZADD', k_delayed, int(now + delay), id)
  end
  if delay < horizon then wake() end
  return sequence
end

local record = redis.call('HGET', k_messages, id)
local origin = earlier_origin(record, not record and read_mark(id), now)
local answer, sequence = FULL, nil
if origin == call then
  local state = read_state(id)
  local score = state and state.score or redis.call('ZSCORE', k_ready, id) or 0
  answer, sequence = STORED, tonumber(score) % LEVEL
elseif origin then
  answer = DUPLICATE
elseif redis.call('HLEN', k_messages) < queue_size then
  answer, sequence = STORED, store()
end
if sequence == 1 and redis.call('EXISTS', k_marks, k_marks_old) == 0 then answer = UNLISTED end
fade()
return { answer }
