-- migrate_list: walk over the head of a list of another layout and take messages out of it
--
-- KEYS    old_list migrated messages ready delayed states marks marks_old seq wake dead dead_records
-- ARGV    call:text horizon:number retention:number lifetime:number walk:number then kind member id digest priority due attempts stored error body, repeated
-- RETURNS for each MOVED, COPY, GONE, HELD or TAKEN, as one text
-- INCLUDE codes number clock state marks finished wake adopt
--
-- Removing from the middle of a list takes as long as the list. So this goes over `walk` entries at
-- its head, and what is not wanted moves to the tail: once around, it is where it was.
-- `kind` is dead, ready, or copy for what only goes if its message was taken before.

local earlier = recall_call()
if earlier then return earlier end

local wanted, answers = {}, {}

for i = 6, #ARGV, 10 do
  answers[#answers + 1] = GONE
  wanted[ARGV[i + 1]] = { place = #answers, kind = ARGV[i], id = ARGV[i + 2],
    digest = ARGV[i + 3], priority = tonumber(ARGV[i + 4]), due = tonumber(ARGV[i + 5]),
    attempts = tonumber(ARGV[i + 6]), stored = tonumber(ARGV[i + 7]),
    error = ARGV[i + 8], body = ARGV[i + 9] }
end

local function judge(message)
  if not message then return HELD end
  if message.kind == 'copy' then return taken_before(message) and COPY or HELD end
  return adopt(message)
end

for _ = 1, walk do
  local head = redis.call('LINDEX', k_old_list, 0)
  if not head then break end
  local message = wanted[head]
  local answer = judge(message)
  if message and answers[message.place] == GONE then answers[message.place] = answer end
  if answer ~= MOVED and answer ~= COPY then redis.call('RPUSH', k_old_list, head) end
  redis.call('LPOP', k_old_list)
end
return conclude(answers)
