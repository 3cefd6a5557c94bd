-- Marks are what remains of a finished message or an answered call, for a while: two generations
-- of one hash, each with a time to live, so that they vanish by themselves. A generation is
-- filled while it has more than half of its life before it, and read until its end. Where windows
-- grow, the older one may be read still when the younger is too short of life: that lives longer then.
local function remember(...)
  local left = redis.call('PTTL', k_marks)
  local ends_early = left < retention
  if left >= 0 and ends_early and redis.call('EXISTS', k_marks_old) == 0 then
    redis.call('RENAME', k_marks, k_marks_old)
  end
  redis.call('HSET', k_marks, ...)
  if ends_early then redis.call('PEXPIRE', k_marks, 2 * retention) end
end

local function recall(field)
  return redis.call('HGET', k_marks, field) or redis.call('HGET', k_marks_old, field)
end

-- Calls share the hash with message ids, which hold no space.
local function remember_call(answer)
  remember(' ' .. call, answer)
end

local function recall_call()
  return recall(' ' .. call)
end
