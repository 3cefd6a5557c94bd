-- An inbox that holds nothing unfinished leaves no key behind but marks and dead letters.
local function tidy()
  if redis.call('EXISTS', k_messages) == 0 then redis.call('DEL', k_seq, k_wake) end
end
