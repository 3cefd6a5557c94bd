-- touch: note that an inbox is in use, so that recovery of all inboxes finds it
--
-- KEYS    inboxes
-- ARGV    lifetime:number then inbox, repeated
-- RETURNS how many are new
-- INCLUDE number clock

local now = int(now_us())
local added = 0
for i = 2, #ARGV do
  added = added + redis.call('ZADD', k_inboxes, now, ARGV[i])
end
redis.call('PEXPIRE', k_inboxes, lifetime)
return added
