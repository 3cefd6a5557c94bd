-- touch: note that an inbox is in use, so that recovery of all inboxes finds it
--
-- KEYS    inboxes
-- ARGV    lifetime:number then inbox, repeated
-- RETURNS nothing
-- INCLUDE number clock

local now = int(now_us())
for i = 2, #ARGV do
  redis.call('ZADD', k_inboxes, now, ARGV[i])
end
redis.call('PEXPIRE', k_inboxes, lifetime)
